package network

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace that lives as long as this file is open and any process is in it.
type namespace struct{ file *os.File }

// newNamespace makes a namespace, which is entered by enter.
func newNamespace() (namespace, error) {
	var made namespace
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		var err error
		made, err = currentNamespace()
		return err
	})
	return made, err
}

// currentNamespace is that of the calling thread.
func currentNamespace() (namespace, error) {
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return namespace{}, fmt.Errorf("opening a network namespace: %w", err)
	}
	return namespace{file: file}, nil
}

// fd is the number by which the namespace is known to the kernel and in /proc/PID/fd.
func (n namespace) fd() int {
	var number int
	conn, err := n.file.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) { number = int(fd) })
	}
	if err != nil {
		return -1
	}
	return number
}

// path is where processes of this user find the namespace.
func (n namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd()) }

// enter runs do with the calling goroutine's thread in the namespace. Goroutines that do starts are not in it.
func (n namespace) enter(do func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return do()
	})
}

func (n namespace) close() { _ = n.file.Close() }

// onThread runs do on a thread of its own, whose network namespace do may change. Afterwards the thread goes back. If it
// cannot, it is not used any more.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := currentNamespace()
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.close()
		err = do()
		if unix.Setns(home.fd(), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
