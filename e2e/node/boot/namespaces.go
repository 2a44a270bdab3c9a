// Package boot puts a node together: its namespaces, its network, its daemons, the agent, and virtual-kubelet's
// controllers that connect the agent with the API server.
package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
	"github.com/hansa-dev/hansa/e2e/node/supervise"
)

// InsideFlag is the argument of a node that is in its own namespaces already.
const InsideFlag = "--inside"

// Enter makes the calling process the parent of a node that runs in namespaces of its own. It returns only if that
// fails.
func Enter(c config.Config, configFile string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the node's program: %w", err)
	}
	command := []string{"hansa-node", supervise.Word, self, InsideFlag, "--config", configFile}
	return fmt.Errorf("executing %s: %w", c.Shim, unix.Exec(c.Shim, command, os.Environ()))
}

// settle prepares the namespaces that the calling process is the first one in.
func settle(c config.Config) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is for the first process of a PID namespace: start the node without it", InsideFlag)
	}
	if err := inside.InheritNothing(); err != nil { // of what the lab has open
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	return nil
}
