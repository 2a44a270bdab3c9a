package process_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/process"
)

func start(t *testing.T, table *process.Table, script string) *process.Started {
	t.Helper()
	p, err := table.Start("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExit(t *testing.T) {
	table := process.NewTable()
	if got, want := start(t, table, "exit 3").Exit(), (process.Exit{Code: 3}); got != want {
		t.Errorf("a process that ends by itself: %+v, want %+v", got, want)
	}
	p := start(t, table, "kill -TERM $$")
	if got, want := p.Exit(), (process.Exit{Code: 143, Signal: 15}); got != want {
		t.Errorf("a process that a signal ends: %+v, want %+v", got, want)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("a signal to a process that has ended: %v", err)
	}
	if _, err := table.Start("/no/such", []string{"x"}, &os.ProcAttr{}); err == nil {
		t.Error("a program that there is not was started")
	}
}

// TestReapLeavesOwn shows that reaping orphans does not take away the processes that somebody waits for.
func TestReapLeavesOwn(t *testing.T) {
	table := process.NewTable()
	for range 20 {
		p := start(t, table, "exit 7")
		table.ReapNow()
		if got := p.Exit().Code; got != 7 {
			t.Fatalf("the exit code is %d, want 7", got)
		}
	}
}

func TestReapOrphans(t *testing.T) {
	table := process.NewTable()
	// Nobody waits for this one.
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		table.ReapNow()
		if err := syscall.Kill(pid, 0); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the orphan has not been reaped")
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	log, ended := filepath.Join(dir, "log"), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	script := "echo run; test -f " + dir + "/once && exec sleep 1000; touch " + dir + "/once; exit 1"
	go func() {
		process.NewTable().Keep(ctx, process.Daemon{Name: "d", Command: []string{"sh", "-c", script}, Log: log}, slog.New(slog.DiscardHandler))
		close(ended)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); ; {
		data, _ := os.ReadFile(log)
		if strings.Count(string(data), "run\n") == 2 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("the daemon was not started again: %q", data)
		case <-tick.C:
		}
	}
	cancel()
	<-ended
}
