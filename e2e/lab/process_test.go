package lab_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/hansa-dev/hansa/e2e/lab"
)

func TestParseStat(t *testing.T) {
	const rest = " 1 2 3 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 14 0 987654 1000 50"
	tests := map[string]struct {
		reason  string
		content string
		want    lab.Stat
		fails   bool
	}{
		"Running": {
			reason:  "S is a sleeping, that is living, process",
			content: "17 (etcd) S" + rest,
			want:    lab.Stat{Activity: lab.Running, Start: 987654, Parent: 1},
		},
		"Paused": {
			reason:  "T is stopped by a signal",
			content: "17 (etcd) T" + rest,
			want:    lab.Stat{Activity: lab.Paused, Start: 987654, Parent: 1},
		},
		"Zombie": {
			reason:  "a zombie has ended; only its parent has not looked yet",
			content: "17 (etcd) Z" + strings.Replace(rest, " 14 ", " 1 ", 1),
			want:    lab.Stat{Activity: lab.Gone, Start: 987654, Parent: 1},
		},
		"Ending": {
			reason:  "while other threads live, so do its files and ports",
			content: "17 (etcd) Z" + rest,
			want:    lab.Stat{Activity: lab.Running, Start: 987654, Parent: 1},
		},
		"StrangeName": {
			reason:  "a command's name may look like the fields behind it",
			content: "17 (a) R 1 (b) S" + rest,
			want:    lab.Stat{Activity: lab.Running, Start: 987654, Parent: 1},
		},
		"NoName":  {reason: "this is not a status", content: "17 etcd S" + rest, fails: true},
		"Short":   {reason: "fields are missing", content: "17 (etcd) S 1 2", fails: true},
		"NoStart": {reason: "the start time is a number", content: "17 (etcd) S" + strings.Replace(rest, "987654", "x", 1), fails: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := lab.ParseStat(tc.content)
			if (err != nil) != tc.fails {
				t.Fatalf("%s: ParseStat: error %v, want one: %t", tc.reason, err, tc.fails)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: ParseStat: -want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// launch starts a shell command as a process of a lab in dir, and ends it with the test.
func launch(t *testing.T, dir, script string) lab.Process {
	t.Helper()
	p, err := lab.StartProcess(filepath.Join(dir, "run", "p.json"), filepath.Join(dir, "p.log"), "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.End(context.Background(), append(lab.Marked(dir), p), 0); err != nil {
			t.Error(err)
		}
	})
	return p
}

// eventually waits until what is said becomes true.
func eventually(t *testing.T, what string, check func(context.Context) (bool, error)) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, check)
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

func TestProcessIsNotTakenForItsSuccessor(t *testing.T) {
	p := launch(t, t.TempDir(), "exec sleep 1000")
	if got := p.Activity(); got != lab.Running {
		t.Fatalf("a process that was just started is %s, want %s", got, lab.Running)
	}
	for reason, stale := range map[string]lab.Process{
		"another process had the pid before": {PID: p.PID, Start: p.Start - 1, Boot: p.Boot},
		"the machine was booted since":       {PID: p.PID, Start: p.Start, Boot: "another"},
		"nothing is recorded":                {},
	} {
		if got := stale.Activity(); got != lab.Gone {
			t.Errorf("%s: the recorded process is %s, want %s", reason, got, lab.Gone)
		}
		if err := stale.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("%s: signalling it: %v", reason, err)
		}
	}
	if got := p.Activity(); got != lab.Running {
		t.Fatalf("signals to former holders of its pid made the process %s", got)
	}
}

func TestProcessPauseAndEnd(t *testing.T) {
	p := launch(t, t.TempDir(), "trap 'exit 0' TERM; while :; do sleep 0.01; done")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is paused", func(context.Context) (bool, error) { return p.Activity() == lab.Paused, nil })
	if resident, _ := p.Memory(); resident <= 0 {
		t.Errorf("a paused process has %d bytes of memory", resident)
	}
	began := time.Now()
	if err := lab.End(t.Context(), []lab.Process{p}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("ending a paused process took %s: it was not continued to act on SIGTERM", took)
	}
	if got := p.Activity(); got != lab.Gone {
		t.Errorf("after its end the process is %s", got)
	}
}

func TestProcessThatIgnoresSIGTERM(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir, "trap '' TERM; echo deaf; while :; do sleep 0.01; done")
	eventually(t, "the process ignores SIGTERM", func(context.Context) (bool, error) {
		log, err := os.ReadFile(filepath.Join(dir, "p.log"))
		return string(log) == "deaf\n", err
	})
	if err := lab.End(t.Context(), []lab.Process{p}, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := p.Activity(); got != lab.Gone {
		t.Errorf("after SIGKILL the process is %s", got)
	}
}

func TestProcessIsRecorded(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir, "exec sleep 1000")
	path := filepath.Join(dir, "run", "p.json")
	got, err := lab.ReadProcess(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("record: -started +read:\n%s", diff)
	}
	got, err = lab.ReadProcess(path + ".none")
	if err != nil || got != (lab.Process{}) {
		t.Errorf("a missing record gives %v, %v; want the zero process", got, err)
	}
}

// TestDescendantsAreFound covers what records cannot: processes that a process of the lab started.
func TestDescendantsAreFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	launch(t, dir, "sleep 1000 & sleep 1000 & wait")
	eventually(t, "the shell and both its children are found", func(context.Context) (bool, error) {
		return len(lab.Marked(dir)) == 3, nil
	})
	if got := lab.Marked(dir + "-2"); len(got) != 0 {
		t.Errorf("another lab, whose name begins the same, has processes %v", got)
	}
	if got := lab.Marked(filepath.Dir(dir)); len(got) != 3 {
		t.Errorf("below the parent folder there are processes %v, want 3", got)
	}
	if err := lab.End(t.Context(), lab.Marked(dir), 0); err != nil {
		t.Fatal(err)
	}
	if got := lab.Marked(dir); len(got) != 0 {
		t.Errorf("after the end there are processes %v", got)
	}
}

func TestIdentifyNobody(t *testing.T) {
	if _, err := lab.Identify(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("identifying a pid that nobody has: %v, want fs.ErrNotExist", err)
	}
}

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "locking")
	unlock, err := lab.LockDir(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() {
		_, err := lab.LockDir(ctx, dir, func() { close(waiting) })
		failed <- err
	}()
	<-waiting
	reason := errors.New("lost patience")
	cancel(reason)
	if err := <-failed; !errors.Is(err, reason) {
		t.Errorf("a waiter that is told to stop returns %v", err)
	}

	waiting = make(chan struct{})
	locked := make(chan func())
	go func() {
		unlock, err := lab.LockDir(t.Context(), dir, func() { close(waiting) })
		if err != nil {
			t.Error(err)
		}
		locked <- unlock
	}()
	<-waiting
	// The holder removes the folder, as down does: the waiter must lock the one that is there then.
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	unlock = <-locked
	defer unlock()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the locked folder holds %v, %v; want nothing", entries, err)
	}
}
