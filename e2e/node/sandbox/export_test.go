package sandbox

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ListenIn listens in a network namespace.
func ListenIn(ns *os.File, network, address string) (net.Listener, error) {
	var listener net.Listener
	err := onThread(func() error {
		if err := join(ns, unix.CLONE_NEWNET, "network"); err != nil {
			return err
		}
		var err error
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}
