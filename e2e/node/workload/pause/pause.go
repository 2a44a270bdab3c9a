// Package pause does nothing until it is told to end. As the first process of a PID namespace it inherits processes
// whose parents have ended, and collects them when they end as well, so that none stays as a zombie.
package pause

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Run returns when ctx ends. Every child of the process that ends meanwhile is collected, so that nothing else in the
// process may wait for children.
func Run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		reap()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// reap collects the children that have ended. One signal may stand for several of them.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
