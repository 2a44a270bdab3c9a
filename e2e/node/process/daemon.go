package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A daemon that ends is started again after a pause that doubles up to a bound, and is short again once it has run for
// a while.
const (
	daemonPause    = 200 * time.Millisecond
	daemonMaxPause = 30 * time.Second
	daemonStable   = time.Minute
)

// Daemon is a program that is to run for as long as the node does.
type Daemon struct {
	Name    string
	Command []string
	Log     string // file that gets its output, appended
}

// Keep keeps a daemon running until ctx ends, and then kills it.
func (t *Table) Keep(ctx context.Context, d Daemon, log *slog.Logger) {
	pause := daemonPause
	for ctx.Err() == nil {
		began := time.Now()
		exit, err := t.runDaemon(ctx, d)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= daemonStable {
			pause = daemonPause
		}
		log.Error("daemon ended and will be started again", "daemon", d.Name, "code", exit.Code, "error", err, "in", pause, "log", d.Log)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, daemonMaxPause)
	}
}

func (t *Table) runDaemon(ctx context.Context, d Daemon) (Exit, error) {
	out, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Exit{Code: 128}, fmt.Errorf("opening the log of %s: %w", d.Name, err)
	}
	defer func() { _ = out.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return Exit{Code: 128}, fmt.Errorf("starting %s: %w", d.Name, err)
	}
	defer func() { _ = null.Close() }()
	file, err := exec.LookPath(d.Command[0])
	if err != nil {
		return Exit{Code: 128}, fmt.Errorf("starting %s: %w", d.Name, err)
	}
	started, err := t.Start(file, d.Command, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{null, out, out}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return Exit{Code: 128}, err
	}
	select {
	case <-started.Done():
	case <-ctx.Done():
		err = started.Signal(syscall.SIGKILL)
	}
	return started.Exit(), err
}
