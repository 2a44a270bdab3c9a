package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests that need namespaces run in processes of their own, which are this test program again. stage tells such a
// process what it is.
const stage = "HANSA_NETWORK_TEST"

const (
	unprivileged = "unprivileged" // goes on as inside, in namespaces that any user may make
	inside       = "inside"       // in namespaces of its own; runs one test
)

// nobody is a user without any rights.
const nobody = 65534

func TestMain(m *testing.M) {
	if os.Getenv(stage) != unprivileged {
		os.Exit(m.Run())
	}
	cmd := again(context.Background(), inside, os.Args[1:])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = fresh()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "making namespaces as an ordinary user:", err)
		os.Exit(1)
	}
}

// again is this program as another stage.
func again(ctx context.Context, as string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...) // its folder may be closed to others
	cmd.Env = append(os.Environ(), stage+"="+as)
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// fresh is what a process is born into.
func fresh() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// isolated runs body in namespaces of its own: as an ordinary user, and before that as root if this user is root. Tests
// that nothing can be said about without them fail where they cannot be had.
func isolated(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(stage) == inside {
		body(t)
		return
	}
	if os.Getenv("LAB_TRAFFIC") == "off" {
		t.Skip("LAB_TRAFFIC=off")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=100s"}
	if os.Geteuid() != 0 {
		cmd := again(t.Context(), inside, args)
		cmd.SysProcAttr = fresh()
		finish(t, cmd)
		return
	}
	t.Run("root", func(t *testing.T) {
		cmd := again(t.Context(), inside, args)
		cmd.SysProcAttr = fresh()
		finish(t, cmd)
	})
	t.Run("rootless", func(t *testing.T) {
		cmd := again(t.Context(), unprivileged, args)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		}
		finish(t, cmd)
	})
}

// finish runs a test in another process and takes over its result.
func finish(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("neither root nor user namespaces are available (%v); set LAB_TRAFFIC=off to do without these tests", err)
	}
	if err != nil || !strings.Contains(output.String(), "\n--- PASS") {
		t.Errorf("in namespaces: %v\n%s", err, output.String())
		return
	}
	t.Log(output.String())
}
