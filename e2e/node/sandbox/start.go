// Package sandbox runs processes in namespaces of their own: the container's file systems, processes and hostname, and
// the network of its pod. It knows nothing of Kubernetes.
package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

// Sandbox starts containers.
type Sandbox struct {
	Shim  string // path of the shim program
	Table *process.Table
}

// Container is what Start needs to know.
type Container struct {
	Spec           inside.Spec
	Network        *os.File // network namespace
	Stdin          *os.File // nil: nothing to read
	Stdout, Stderr *os.File
}

// StartError is the error of a command that could not be started: it is missing, or no program.
type StartError struct{ Message string }

func (e *StartError) Error() string { return e.Message }

// Start starts a container and returns when its command runs. The error is a *StartError if the command is to blame.
func (s *Sandbox) Start(c Container) (*process.Started, error) {
	if err := os.MkdirAll(c.Spec.Root, 0o700); err != nil {
		return nil, fmt.Errorf("making the container's root: %w", err)
	}
	spec, err := json.Marshal(c.Spec)
	if err != nil {
		return nil, fmt.Errorf("describing the container: %w", err)
	}
	specR, specW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting a container: %w", err)
	}
	defer closeAll(specR)
	errR, errW, err := os.Pipe()
	if err != nil {
		closeAll(specW)
		return nil, fmt.Errorf("starting a container: %w", err)
	}
	defer closeAll(errR)
	started, err := s.fork(c, specR, errW)
	closeAll(errW) // or the end of its other copy would not be seen
	if err != nil {
		closeAll(specW)
		return nil, err
	}
	_, writeErr := specW.Write(spec)
	closeAll(specW)
	return started, settle(started, errR, writeErr)
}

// fork starts the shim in the new namespaces.
func (s *Sandbox) fork(c Container, spec, report *os.File) (*process.Started, error) {
	stdin := c.Stdin
	if stdin == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return nil, fmt.Errorf("starting a container: %w", err)
		}
		defer closeAll(null)
		stdin = null
	}
	var started *process.Started
	err := onThread(func() error {
		if err := join(c.Network, unix.CLONE_NEWNET, "network"); err != nil {
			return err
		}
		var err error
		started, err = s.Table.Start(s.Shim, []string{"shim"}, &os.ProcAttr{
			Env:   c.Spec.Env, // so that the process can be told by its environment from the beginning
			Files: []*os.File{stdin, c.Stdout, c.Stderr, spec, report},
			Sys: &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
				Setsid:     true,
			},
		})
		return err
	})
	return started, err
}

// settle waits until the shim has executed the command or has said why not.
func settle(started *process.Started, report io.Reader, writeErr error) error {
	answer, err := io.ReadAll(report)
	if err == nil && len(answer) == 0 && writeErr == nil {
		return nil
	}
	started.Exit()
	var failure inside.Failure
	if len(answer) == 0 || json.Unmarshal(answer, &failure) != nil {
		return fmt.Errorf("starting a container: the shim broke off: %w", errors.Join(err, writeErr))
	}
	if failure.Command {
		return &StartError{Message: failure.Message}
	}
	return fmt.Errorf("starting a container: %s", failure.Message)
}

func closeAll(files ...io.Closer) {
	for _, f := range files {
		_ = f.Close()
	}
}
