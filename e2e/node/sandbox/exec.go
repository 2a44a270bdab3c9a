package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

// Command is something to run in a container beside its own command.
type Command struct {
	Args           []string
	Env            []string
	Dir            string   // default: /
	Stdin          *os.File // nil: nothing to read
	Stdout, Stderr *os.File // not used with a terminal
	Terminal       bool
	Capabilities   []string // kept beside the usual ones, if they are inside.Grantable
}

// memberships are the namespaces that a container has for itself. That of the file systems comes last: the others are
// not found any more from within.
var memberships = []struct {
	name string
	kind int
}{
	{"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS},
}

// Exec starts a command in the container whose first process is pid. With a terminal it returns that, too. The error
// is a *StartError if the command is to blame.
func (s *Sandbox) Exec(pid int, c Command) (*process.Started, *os.File, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("running %s in a container: %w", c.Args[0], err)
	}
	defer closeAll(null)
	files := []*os.File{null, null, null}
	for i, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if f != nil {
			files[i] = f
		}
	}
	var started *process.Started
	var terminal *os.File
	err = onThread(func() error {
		if err := enter(pid); err != nil {
			return err
		}
		if err := inside.DropCapabilities(c.Capabilities); err != nil {
			return err
		}
		sys := &syscall.SysProcAttr{Setsid: true}
		if c.Terminal {
			master, slave, err := openTerminal()
			if err != nil {
				return err
			}
			defer closeAll(slave)
			terminal, files = master, []*os.File{slave, slave, slave}
			sys.Setctty = true
		}
		started, err = s.run(c, files, sys)
		return err
	})
	if err != nil {
		if terminal != nil {
			closeAll(terminal)
		}
		return nil, nil, err
	}
	return started, terminal, nil
}

func (s *Sandbox) run(c Command, files []*os.File, sys *syscall.SysProcAttr) (*process.Started, error) {
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil { // of this thread only: enter saw to that
		return nil, &StartError{Message: fmt.Sprintf("working directory of exec: %v", err)}
	}
	file, err := inside.Lookup(c.Args[0], c.Env)
	if err != nil {
		return nil, &StartError{Message: err.Error()}
	}
	started, err := s.Table.Start(file, c.Args, &os.ProcAttr{Env: c.Env, Files: files, Sys: sys})
	if err != nil {
		return nil, &StartError{Message: fmt.Sprintf("exec: %v", err)}
	}
	return started, nil
}

// enter moves the calling thread into a container; processes that it starts will be among those of the container.
func enter(pid int) error {
	var namespaces []*os.File
	defer func() {
		for _, ns := range namespaces {
			closeAll(ns)
		}
	}()
	for _, m := range memberships {
		ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", m.name))
		if err != nil {
			return fmt.Errorf("finding the container's namespaces: %w", err)
		}
		namespaces = append(namespaces, ns)
	}
	// A thread that shares its root and working directory with others cannot change the mounts that it sees.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("parting from the other threads: %w", err)
	}
	for i, m := range memberships {
		if err := join(namespaces[i], m.kind, m.name); err != nil {
			return err
		}
	}
	return nil
}
