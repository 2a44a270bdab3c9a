package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// programPrefix begins the target that names a program: "program/NAME".
const programPrefix = "program/"

// Kill ends a target with SIGKILL and waits until it is gone; its data stays. A target is a cluster ("m1"), one of
// its components ("m1/apiserver"), a node ("m1-n1"), a Pod ("pod/CLUSTER/NAMESPACE/NAME") or a program
// ("program/NAME").
func (l *Lab) Kill(ctx context.Context, target string) error {
	if pod, ok := strings.CutPrefix(target, podPrefix); ok {
		return l.onPod(ctx, pod, "kill")
	}
	return l.onTarget(ctx, target, func(processes []Process) error {
		return end(ctx, processes, 0)
	})
}

// Pause stops a target (as for Kill) with SIGSTOP: its connections stay open and are not answered.
func (l *Lab) Pause(ctx context.Context, target string) error {
	if pod, ok := strings.CutPrefix(target, podPrefix); ok {
		return l.onPod(ctx, pod, "pause")
	}
	return l.signal(ctx, target, syscall.SIGSTOP)
}

// Resume lets a paused target go on.
func (l *Lab) Resume(ctx context.Context, target string) error {
	if pod, ok := strings.CutPrefix(target, podPrefix); ok {
		return l.onPod(ctx, pod, "resume")
	}
	return l.signal(ctx, target, syscall.SIGCONT)
}

func (l *Lab) signal(ctx context.Context, target string, sig syscall.Signal) error {
	return l.onTarget(ctx, target, func(processes []Process) error {
		if len(living(processes)) == 0 {
			return fmt.Errorf("%s of lab %s is not running", target, l.opts.Name)
		}
		var errs []error
		for _, p := range processes {
			errs = append(errs, p.Signal(sig))
		}
		return errors.Join(errs...)
	})
}

// Start starts what is not running of a target, a cluster or one of its components, with the ports and the data that
// it had, and waits until the cluster is ready. With an API server its controllers start anew.
func (l *Lab) Start(ctx context.Context, target string) error {
	unlock, err := l.lockExisting(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if strings.HasPrefix(target, programPrefix) {
		return fmt.Errorf("%s cannot be started by name: start it with its command", target)
	}
	if n, err := l.node(target); err == nil {
		_, err := l.startDead(ctx, n.cluster, []node{n})
		return err
	}
	c, components, err := l.find(target)
	if err != nil {
		return err
	}
	if _, err := l.startCluster(ctx, c, components); err != nil || len(components) == 1 {
		return err
	}
	_, err = l.startDeadNodes(ctx, c)
	return err
}

// startCluster is Start under the lock. It tells whether there was anything to start.
func (l *Lab) startCluster(ctx context.Context, c Cluster, components []Component) (bool, error) {
	dead, err := c.stopped(components)
	if err != nil || len(dead) == 0 {
		return false, err
	}
	for component, port := range c.ports.by() {
		if c.traffic != nil {
			break // the ports are of the cluster's own network
		}
		if slices.Contains(dead, component) && !portFree(*port) {
			return false, fmt.Errorf("starting %s: port %d of its %s is in use by another program: end that one and try again", c.Name, *port, component)
		}
	}
	dead, err = l.endDeaf(ctx, c, dead)
	if err != nil {
		return false, err
	}
	if err := l.startComponents(ctx, c, dead); err != nil {
		return false, fmt.Errorf("starting cluster %s: %w", c.Name, err)
	}
	return true, nil
}

// endDeaf ends the controllers that have outlived the API server that is started, and adds them to what is. In a cluster
// where they elect a leader they end by themselves when they cannot say that they lead. Those of a lab would go on, and
// hear nothing for as long as their watches are held back after failures, up to a minute; what they do meanwhile is
// refused, which holds them back for longer still: an EndpointSlice can be wrong for minutes.
func (l *Lab) endDeaf(ctx context.Context, c Cluster, dead []Component) ([]Component, error) {
	if !slices.Contains(dead, APIServer) {
		return dead, nil
	}
	var deaf []Component
	for _, component := range c.Components() {
		r, err := readRecord(c.record(component))
		if err != nil {
			return nil, err
		}
		if component != Etcd && component != APIServer && r.Activity() == Running {
			deaf = append(deaf, component)
		}
	}
	if err := l.endComponents(ctx, c, deaf); err != nil {
		return nil, fmt.Errorf("starting cluster %s: ending controllers that have lost their API server: %w", c.Name, err)
	}
	return slices.DeleteFunc(c.Components(), func(of Component) bool { return !slices.Contains(dead, of) && !slices.Contains(deaf, of) }), nil
}

// stopped returns those of the components that do not run. It is an error if one is paused, or if one would wait for
// another that does not run and is not among them.
func (c Cluster) stopped(components []Component) ([]Component, error) {
	var dead []Component
	var missing Component
	for _, component := range c.Components() {
		r, err := readRecord(c.record(component))
		if err != nil {
			return nil, err
		}
		wanted := slices.Contains(components, component)
		switch activity := r.Activity(); {
		case wanted && activity == Paused:
			return nil, fmt.Errorf("%s of %s is paused: resume it first", component, c.Name)
		case wanted && activity == Gone && missing != "":
			return nil, fmt.Errorf("%s of %s needs %s, which does not run: start %s/%s first, or all of %s",
				component, c.Name, missing, c.Name, missing, c.Name)
		case wanted && activity == Gone:
			dead = append(dead, component)
		case activity != Running && (component == Etcd || component == APIServer):
			missing = component
		}
	}
	return dead, nil
}

// endComponents kills components of a cluster.
func (l *Lab) endComponents(ctx context.Context, c Cluster, components []Component) error {
	processes, err := c.processes(components)
	if err != nil {
		return err
	}
	return end(ctx, processes, 0)
}

// onTarget calls f with the processes of a target, under the lock.
func (l *Lab) onTarget(ctx context.Context, target string, f func([]Process) error) error {
	unlock, err := l.lockExisting(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	processes, err := l.targetProcesses(target)
	if err != nil {
		return err
	}
	return f(processes)
}

// targetProcesses are the living processes of a target.
func (l *Lab) targetProcesses(target string) ([]Process, error) {
	if name, ok := strings.CutPrefix(target, programPrefix); ok {
		return l.programProcesses(name)
	}
	if n, err := l.node(target); err == nil {
		return n.processes()
	}
	c, components, err := l.find(target)
	if err != nil {
		return nil, err
	}
	found, err := c.processes(components)
	if err != nil || len(components) == 1 {
		return found, err
	}
	for _, n := range c.nodes() {
		more, err := n.processes()
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// find resolves CLUSTER or CLUSTER/COMPONENT; the error, ErrNotFound, names what there is.
func (l *Lab) find(target string) (Cluster, []Component, error) {
	name, part, one := strings.Cut(target, "/")
	c, err := l.Cluster(name)
	if err != nil || !one {
		return c, c.Components(), err
	}
	part = strings.TrimPrefix(part, "kube-")
	if component := Component(part); slices.Contains(c.Components(), component) {
		return c, []Component{component}, nil
	}
	return c, nil, fmt.Errorf("component %q of cluster %s: %w; it has %s", part, name, ErrNotFound, join(c.Components()))
}

// processes are those of components of the cluster, recorded or not. None is gone.
func (c Cluster) processes(components []Component) ([]Process, error) {
	var found []Process
	for _, component := range components {
		r, err := readRecord(c.record(component))
		if err != nil {
			return nil, err
		}
		if r.Activity() != Gone {
			found = append(found, r.Process)
		}
		for _, p := range marked(c.record(component)) {
			if p != r.Process {
				found = append(found, p)
			}
		}
	}
	return found, nil
}

// Targets lists what can be killed, paused and resumed, for the completion of command lines.
func (l *Lab) Targets() ([]string, error) {
	clusters, err := l.Clusters()
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, c := range clusters {
		targets = append(targets, c.Name)
		for _, component := range c.Components() {
			targets = append(targets, c.Name+"/"+string(component))
		}
		targets = append(targets, c.nodeNames()...)
	}
	names, err := l.programNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		targets = append(targets, programPrefix+name)
	}
	return targets, nil
}

func join[T ~string](parts []T) string {
	var names []string
	for _, part := range parts {
		names = append(names, string(part))
	}
	return strings.Join(names, ", ")
}

// programRecord is where the record of a program lies.
func (l *Lab) programRecord(name string) string {
	return filepath.Join(l.dir, "programs", name+".json")
}
