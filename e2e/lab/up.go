package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// bootAttempts is how often a cluster is given other ports when somebody took one of them.
const bootAttempts = 5

// errPortTaken means that a component could not listen because its port is in use.
var errPortTaken = errors.New("port in use")

// Up makes the lab and waits until all its clusters are ready; whatever it made is gone again if it fails or ctx
// ends. A lab that is up already with as many members is left alone, except that its dead clusters are started;
// what an interrupted Up left is made anew. The error is ErrExists if the lab has another number of members.
func (l *Lab) Up(ctx context.Context) error {
	binary, err := l.binary(ctx)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := l.manifest()
	switch {
	case err == nil && m.Up:
		return l.revive(ctx, m)
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	if found, err := l.down(ctx); err != nil {
		return err
	} else if found {
		l.out.say("removed what an interrupted start of lab %s had left", l.opts.Name)
	}
	if err := l.make(ctx, binary); err != nil {
		l.out.say("removing lab %s", l.opts.Name)
		_, cleanup := l.down(context.WithoutCancel(ctx))
		l.removeIfEmpty()
		return errors.Join(err, cleanup)
	}
	return nil
}

// binary returns the path of the Kubernetes binary, which it builds if need be.
func (l *Lab) binary(ctx context.Context) (string, error) {
	if l.opts.Binary != "" {
		return l.opts.Binary, nil
	}
	source := l.opts.Source
	if source == "" {
		var err error
		if source, err = FindSource(); err != nil {
			return "", err
		}
	}
	b, err := FindBinary(ctx, source)
	if err != nil {
		return "", err
	}
	return b.Path, b.Build(ctx, l.opts.Out)
}

// revive is Up for a lab that exists.
func (l *Lab) revive(ctx context.Context, m manifest) error {
	if m.Members != l.opts.Members {
		return fmt.Errorf("lab %s has %d members, not %d: %w; take it down first, or choose another name",
			l.opts.Name, m.Members, l.opts.Members, ErrExists)
	}
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	for _, c := range clusters {
		started, err := l.startCluster(ctx, c, Components())
		if err != nil {
			return err
		}
		if started {
			l.out.say("%s started again", c.Name)
		}
	}
	return nil
}

// make boots the clusters of a new lab, all at once. It runs under the lock, in an empty directory.
func (l *Lab) make(ctx context.Context, binary string) error {
	m := manifest{
		Name: l.opts.Name, Members: l.opts.Members, Binary: binary,
		Gates: formatGates(l.opts.Gates), Made: time.Now().UTC(),
	}
	if err := writeJSON(l.manifestFile(), m); err != nil {
		return err
	}
	clusters := l.clusters(m)
	if err := l.bootAll(ctx, clusters); err != nil {
		return err
	}
	if err := l.writeKubeconfig(); err != nil {
		return err
	}
	m.Up = true
	return writeJSON(l.manifestFile(), m)
}

// bootAll boots clusters in parallel; when one fails, the others are given up.
func (l *Lab) bootAll(ctx context.Context, clusters []Cluster) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	ports := NewPorts(nil)
	began := time.Now()
	for _, c := range clusters {
		wg.Go(func() {
			url, err := l.boot(ctx, c, ports)
			if err != nil {
				cancel(fmt.Errorf("starting cluster %s: %w", c.Name, err)) // the first one counts
				return
			}
			l.out.say("%-4s ready in %.1f s  %s", c.Name, time.Since(began).Seconds(), url)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// boot starts one cluster on free ports. It returns the URL of its API.
func (l *Lab) boot(ctx context.Context, c Cluster, ports *Ports) (string, error) {
	if err := c.prepare(time.Now()); err != nil {
		return "", err
	}
	for attempt := 1; ; attempt++ {
		for _, port := range c.ports.by() {
			var err error
			if *port, err = ports.Free(); err != nil {
				return "", err
			}
		}
		if err := c.address(); err != nil {
			return "", err
		}
		err := l.startComponents(ctx, c, Components())
		if !errors.Is(err, errPortTaken) || attempt == bootAttempts {
			return c.URL(), err
		}
		l.out.say("%-4s %v; trying other ports", c.Name, err)
		if err := l.endComponents(ctx, c, Components()); err != nil {
			return "", err
		}
		if err := os.RemoveAll(filepath.Join(c.dir, "etcd")); err != nil {
			return "", fmt.Errorf("starting over: %w", err)
		}
	}
}

// writeKubeconfig merges the administrators' credentials of all clusters into one file.
func (l *Lab) writeKubeconfig() error {
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.CurrentContext = Hub
	for _, c := range clusters {
		pair, err := c.readPair("admin")
		if err != nil {
			return err
		}
		if err := c.addContext(config, pair); err != nil {
			return err
		}
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig of lab %s: %w", l.opts.Name, err)
	}
	return writeFile(l.Kubeconfig(), data)
}

// startComponents starts components of a cluster one after the other, each when the one before it serves, and waits
// until the cluster is ready. The error wraps errPortTaken if that was the cause.
func (l *Lab) startComponents(ctx context.Context, c Cluster, components []Component) error {
	children := map[Component]*child{}
	for _, component := range components {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		// The log of an earlier run tells nothing about this one.
		if err := rotate(c.Log(component)); err != nil {
			return err
		}
		ch, err := start(c.launch(component))
		if err != nil {
			return err
		}
		children[component] = ch
		if err := c.await(ctx, component, children); err != nil {
			return err
		}
	}
	return c.awaitReady(ctx, children)
}

// rotate moves a log away, over the one before it.
func rotate(log string) error {
	if err := os.Rename(log, strings.TrimSuffix(log, ".log")+".previous.log"); err != nil && !missing(err) {
		return fmt.Errorf("rotating a log: %w", err)
	}
	return nil
}
