package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// Run turns the calling process into the container that the spec on SpecFD describes. It must be the first process of
// new PID, mount, UTS and IPC namespaces. It returns only if that failed, after telling so on ErrorFD, or at the end
// of an idle container, with nil.
func Run() error {
	runtime.LockOSThread() // capabilities belong to a thread; this one executes the command
	report := os.NewFile(ErrorFD, "errors")
	s, err := ReadSpec(os.NewFile(SpecFD, "spec"))
	if err == nil {
		err = InheritNothing()
	}
	if err == nil {
		err = s.start(report)
	}
	if err == nil {
		return nil
	}
	var command *commandError
	failure := Failure{Message: err.Error(), Command: errors.As(err, &command)}
	if reportErr := json.NewEncoder(report).Encode(failure); reportErr != nil {
		err = errors.Join(err, reportErr)
	}
	return err
}

// InheritNothing keeps what the calling process executes from inheriting open files other than the standard ones.
func InheritNothing() error {
	const first = 3
	if err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("closing inherited files: %w", err)
	}
	return nil
}

// commandError is an error of the command, as opposed to one of the container.
type commandError struct{ error }

func (s Spec) start(report *os.File) error {
	r := root(s.Root)
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	if err := r.build(s); err != nil {
		return err
	}
	if err := r.enter(s); err != nil {
		return err
	}
	if err := DropCapabilities(s.Capabilities); err != nil {
		return err
	}
	if s.Idle {
		return idle(report)
	}
	if len(s.Command) == 0 {
		return &commandError{errors.New("no command specified")}
	}
	file, err := Lookup(s.Command[0], s.Env)
	if err != nil {
		return &commandError{err}
	}
	err = unix.Exec(file, s.Command, s.Env)
	return &commandError{fmt.Errorf("exec: %q: %w", s.Command[0], err)}
}

// idle waits to be told to end. It says by closing the report that the container runs.
func idle(report *os.File) error {
	// Processes that outlive the one that started them become children of this one; nobody asks how they end.
	signal.Ignore(unix.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	if err := report.Close(); err != nil {
		return fmt.Errorf("reporting the start: %w", err)
	}
	<-stop
	return nil
}
