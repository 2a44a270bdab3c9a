// Package supervise is what the recorded process of a node does: it starts the node in new PID, mount and UTS
// namespaces and waits. It links next to nothing, so that it costs next to no memory.
package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// Word is the first argument by which the shim program knows that it is to supervise and not to start a container.
const Word = "supervise"

// Run starts a command in new namespaces, forwards SIGTERM and SIGINT to it, and returns its exit code when it has
// ended. If the calling process ends before, however that be, the kernel kills the command and with it everything in
// its PID namespace.
func Run(command []string) (int, error) {
	runtime.LockOSThread() // the kernel watches the thread that starts the command
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // G204: that is its purpose; signals end it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the node in namespaces of its own: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // unless it has just ended
		case err := <-done:
			return exitCode(cmd.ProcessState, err)
		}
	}
}

func exitCode(state *os.ProcessState, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("waiting for the node: %w", err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		const signalled = 128
		return signalled + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}
