package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on an operating system thread of its own, which may be moved to other namespaces at will: it ends
// with f, and nothing else ever runs on it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: so the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// join moves the calling thread to a namespace.
func join(namespace *os.File, kind int, what string) error {
	if err := unix.Setns(int(namespace.Fd()), kind); err != nil {
		return fmt.Errorf("entering the %s namespace: %w", what, err)
	}
	return nil
}
