package network_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// The tests that need namespaces run in processes of their own, which are this test program again. stage tells such a
// process what it is.
const stage = "HANSA_NETWORK_TEST"

const (
	inside       = "inside"        // in namespaces of its own; runs one test
	serve        = "serve"         // in namespaces of its own; is the network process of the spec in its arguments
	unprivileged = "unprivileged:" // goes on as what follows, in namespaces that any user may make
)

// nobody is a user without any rights.
const nobody = 65534

func TestMain(m *testing.M) {
	role, drop := strings.CutPrefix(os.Getenv(stage), unprivileged)
	switch {
	case drop:
		if err := proceed(role); err != nil {
			fmt.Fprintln(os.Stderr, "as an ordinary user:", err)
			os.Exit(1)
		}
	case role == serve:
		if err := serveSpec(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "the network process:", err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// proceed runs this program again, in namespaces of its own.
func proceed(role string) error {
	cmd := again(context.Background(), role, os.Args[1:])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if role == serve {
		cmd.ExtraFiles = []*os.File{os.NewFile(3, "listener")}
	}
	cmd.SysProcAttr = fresh()
	return cmd.Run()
}

// serveSpec is a network process with one cluster, whose listener is inherited.
func serveSpec(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec network.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	return network.Run(context.Background(), spec, []net.Listener{listener}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
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

// isolated runs body in namespaces of its own: as an ordinary user, and before that as root if this user is root.
func isolated(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(stage) == inside {
		body(t)
		return
	}
	name := t.Name()
	privileges(t, func(t *testing.T, start starter) {
		finish(t, start(t, inside, "-test.run=^"+name+"$", "-test.v", "-test.timeout=100s"))
	})
}

// starter prepares this program for a role in namespaces of its own.
type starter func(t *testing.T, role string, args ...string) *exec.Cmd

// privileges runs a test with each kind of privileges that namespaces can be made with here. There are no others: where
// these are missing, the test fails.
func privileges(t *testing.T, test func(t *testing.T, start starter)) {
	t.Helper()
	if os.Getenv("LAB_TRAFFIC") == "off" {
		t.Skip("LAB_TRAFFIC=off")
	}
	direct := func(t *testing.T, role string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := again(t.Context(), role, args)
		cmd.SysProcAttr = fresh()
		return cmd
	}
	if os.Geteuid() != 0 {
		test(t, direct)
		return
	}
	t.Run("root", func(t *testing.T) { test(t, direct) })
	t.Run("rootless", func(t *testing.T) {
		test(t, func(t *testing.T, role string, args ...string) *exec.Cmd {
			t.Helper()
			cmd := again(t.Context(), unprivileged+role, args)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
			}
			return cmd
		})
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
