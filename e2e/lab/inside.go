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
	"strings"
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

// InsideEnv is an environment (KEY=VALUE) for what runs inside: with the kubeconfig that is valid there, and the lab's
// mark, by which Down finds it.
func (l *Lab) InsideEnv(environ []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return strings.HasPrefix(variable, "KUBECONFIG=") || strings.HasPrefix(variable, marker+"=")
	})
	return append(env, "KUBECONFIG="+l.InsideKubeconfig(), marker+"="+filepath.Join(l.dir, "programs", "exec"))
}

// place resolves the name of a cluster or of a node to a cluster and the name of a network: that of one of its nodes, or
// its own if it has none.
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
	if nodes := c.nodeNames(); len(nodes) > 0 {
		return c, nodes[0], nil
	}
	return c, c.Name, nil
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

// strangers are the processes in the lab's network namespaces that threw the lab's mark away. Their namespaces would live
// as long as they do.
func (l *Lab) strangers(ctx context.Context) []Process {
	ours := map[string]bool{}
	if client, err := l.Network(); err == nil {
		if state, err := client.State(ctx); err == nil {
			for _, path := range state.Namespaces {
				if namespace, err := os.Readlink(path); err == nil {
					ours[namespace] = true
				}
			}
		}
	}
	for _, p := range marked(l.dir) {
		if namespace, err := os.Readlink(procFile(p.PID, "ns/net")); err == nil {
			ours[namespace] = true
		}
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	delete(ours, own) // control planes without traffic are where everybody is
	return inNetworks(ours)
}

// inNetworks returns the living processes in network namespaces, except the calling process.
func inNetworks(namespaces map[string]bool) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil || len(namespaces) == 0 {
		return nil
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if namespace, err := os.Readlink(procFile(pid, "ns/net")); err != nil || !namespaces[namespace] {
			continue
		}
		if p, err := Identify(pid); err == nil && p.Activity() != Gone {
			found = append(found, p)
		}
	}
	return found
}
