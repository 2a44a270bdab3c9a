package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// Entry is how to get into a namespace of a lab.
type Entry struct {
	command []string // to put before what runs inside
}

// Command returns command as it is run inside.
func (e Entry) Command(command ...string) []string { return slices.Concat(e.command, command) }

// Entry returns how to get into the network of a cluster (its router and control plane) or of a node, by name.
func (l *Lab) Entry(ctx context.Context, name string) (Entry, error) {
	client, err := l.Network()
	if err != nil {
		return Entry{}, err
	}
	state, err := client.State(ctx)
	if err != nil {
		return Entry{}, fmt.Errorf("entering the network of %s: %w", name, err)
	}
	path, ok := state.Namespaces[name]
	if !ok {
		return Entry{}, fmt.Errorf("network %q of lab %s: %w", name, l.opts.Name, ErrNotFound)
	}
	command := []string{"nsenter", "--net=" + path}
	if !sameUsers(state.PID) {
		command = append(command, "--target="+strconv.Itoa(state.PID), "--user", "--preserve-credentials")
	}
	return Entry{command: append(command, "--")}, nil
}

// sameUsers tells whether a process is in the caller's user namespace.
func sameUsers(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return true
	}
	theirs, err := os.Readlink(procFile(pid, "ns/user"))
	return err == nil && ours == theirs
}

// Inside returns the command by which command runs in the network of a node, or of the first node of a cluster: there,
// Services and Pods of the cluster can be reached, and names are asked of its DNS. The program of the network process
// prepares the last part.
func (l *Lab) Inside(ctx context.Context, where string, command ...string) ([]string, error) {
	m, err := l.manifest()
	if err != nil {
		return nil, err
	}
	c, name, err := l.place(where)
	if err != nil {
		return nil, err
	}
	entry, err := l.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	inside := append(slices.Clone(m.Network[:len(m.Network)-1]), "inside", c.resolvConf(), "--")
	return entry.Command(append(inside, command...)...), nil
}

// place resolves the name of a cluster or of a node to a cluster and the name of one of its nodes.
func (l *Lab) place(where string) (Cluster, string, error) {
	if n, err := l.node(where); err == nil {
		return n.cluster, n.Name, nil
	}
	c, err := l.Cluster(where)
	if err != nil {
		return Cluster{}, "", err
	}
	if c.traffic == nil {
		return Cluster{}, "", fmt.Errorf("lab %s has no networks of its own; make one that does with: hansa-lab up --traffic", l.opts.Name)
	}
	return c, c.nodeNames()[0], nil
}

// resolvConf is the file that programs in the cluster's networks see as /etc/resolv.conf.
func (c Cluster) resolvConf() string { return filepath.Join(c.dir, "resolv.conf") }

// EnterNames gives the calling process a mount namespace of its own in which /etc/resolv.conf is the given file, and
// replaces the process by command. It returns only if that fails.
func EnterNames(resolvConf string, command []string) error {
	runtime.LockOSThread() // the namespace is the thread's, and so is what it becomes
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keeping mounts from the host: %w", err)
	}
	if err := syscall.Mount(resolvConf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s as /etc/resolv.conf: %w", resolvConf, err)
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("looking for %s: %w", command[0], err)
	}
	return fmt.Errorf("starting %s: %w", path, syscall.Exec(path, command, os.Environ())) //nolint:gosec // G204: that is its purpose
}
