package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

const (
	startingGC = 400 // per cent, while a program starts
	settledGC  = 100 // Go's default
	// settleAfter is when a program that nobody tells settles by itself.
	settleAfter = time.Minute
	// settlePause lets those go first who waited for the end of the start.
	settlePause = 2 * time.Second
)

// relax lets the collector rest while a program starts: a control plane makes most of the garbage of its life then, and
// collecting it took a fifth of the start. SIGCONT, which does nothing else to a program that runs, says that the start
// is over; then what it needed goes back to the system, and the percentage in GOGC holds.
func relax() {
	debug.SetGCPercent(startingGC)
	started := make(chan os.Signal, 1)
	signal.Notify(started, syscall.SIGCONT)
	go func() {
		select {
		case <-started:
			time.AfterFunc(settlePause, settle)
		case <-time.After(settleAfter):
			settle()
		}
		signal.Stop(started)
	}()
}

// settle ends what relax began.
func settle() {
	percent, err := strconv.Atoi(os.Getenv("GOGC"))
	if err != nil {
		percent = settledGC
	}
	debug.SetGCPercent(percent)
	runtime.GC() // what pools hold survives one collection
	debug.FreeOSMemory()
}
