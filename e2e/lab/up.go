package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	wanted, err := l.wanted(ctx)
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
	if err := l.make(ctx, wanted); err != nil {
		l.out.say("removing lab %s", l.opts.Name)
		_, cleanup := l.down(context.WithoutCancel(ctx))
		l.removeIfEmpty()
		return errors.Join(err, cleanup)
	}
	return nil
}

// wanted is what the lab is to consist of. It builds the programs that are missing.
func (l *Lab) wanted(ctx context.Context) (manifest, error) {
	m := manifest{
		Name: l.opts.Name, Members: l.opts.Members, Thin: l.opts.Thin,
		Gates: formatGates(l.opts.Gates), Made: time.Now().UTC(), Traffic: l.opts.Traffic,
	}
	var err error
	if l.opts.Fake > 0 {
		m.Fake = l.opts.Fake
		if m.Kwok, err = l.beside(ctx, FindKwok); err != nil {
			return manifest{}, err
		}
	}
	if m.Traffic == nil {
		m.Binary, err = l.binary(ctx)
		return m, err
	}
	if m.NFT, err = findNFT(); err != nil { // before anything that takes long
		return manifest{}, err
	}
	if m.Network, err = l.networkCommand(); err != nil {
		return manifest{}, err
	}
	if m.Binary, err = l.binary(ctx); err != nil {
		return manifest{}, err
	}
	if m.Node, err = l.beside(ctx, FindNode); err != nil {
		return manifest{}, err
	}
	m.DNS, err = l.beside(ctx, FindDNS)
	return m, err
}

// networkCommand is how to run the network process.
func (l *Lab) networkCommand() ([]string, error) {
	if len(l.opts.Self) > 0 {
		return l.opts.Self, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the program of the network: %w", err)
	}
	return []string{exe, "network"}, nil
}

// source is the folder of the Kubernetes binary's module.
func (l *Lab) source() (string, error) {
	if l.opts.Source != "" {
		return l.opts.Source, nil
	}
	return FindSource()
}

// binary returns the path of the Kubernetes binary, which it builds if need be.
func (l *Lab) binary(ctx context.Context) (string, error) {
	if l.opts.Binary != "" {
		return l.opts.Binary, nil
	}
	return l.beside(ctx, FindBinary)
}

// beside returns the path of a program that is built of a module of the checkout, which it builds if need be.
func (l *Lab) beside(ctx context.Context, find func(context.Context, string) (Binary, error)) (string, error) {
	source, err := l.source()
	if err != nil {
		return "", err
	}
	b, err := find(ctx, source)
	if err != nil {
		return "", err
	}
	return b.Path, b.Build(ctx, l.opts.Out)
}

// revive is Up for a lab that exists.
func (l *Lab) revive(ctx context.Context, m manifest) error {
	if m.Members != l.opts.Members || m.Thin != l.opts.Thin || m.Fake != l.opts.Fake {
		return fmt.Errorf("lab %s has %d members and %d thin ones, not %d and %d: %w; take it down first, or choose another name",
			l.opts.Name, m.Members, m.Thin, l.opts.Members, l.opts.Thin, ErrExists)
	}
	if !m.Traffic.equal(l.opts.Traffic) {
		return fmt.Errorf("lab %s was made with other networks: %w; take it down first, or choose another name", l.opts.Name, ErrExists)
	}
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	if err := l.reviveNetwork(ctx, m, clusters); err != nil {
		return err
	}
	for _, c := range clusters {
		started, err := l.startCluster(ctx, c, c.Components())
		if err != nil {
			return err
		}
		again, err := l.startDeadNodes(ctx, c)
		if err != nil {
			return err
		}
		if started || again {
			l.out.say("%s started again", c.Name)
		}
	}
	return l.verify(ctx, clusters)
}

// make boots the clusters of a new lab, all at once. It runs under the lock, in an empty directory.
func (l *Lab) make(ctx context.Context, m manifest) error {
	if err := writeJSON(l.manifestFile(), m); err != nil {
		return err
	}
	clusters := l.clusters(m)
	if m.Traffic != nil {
		if err := l.connect(ctx, m, clusters); err != nil {
			return err
		}
	}
	if err := l.bootAll(ctx, clusters); err != nil {
		return err
	}
	if err := l.writeKubeconfigs(); err != nil {
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
	// Many thin members at once would only wait for each other, and for longer than anybody has patience.
	places := make(chan struct{}, 1+max(l.opts.Members, 2*runtime.NumCPU()))
	for _, c := range clusters {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
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
	if c.traffic != nil {
		return c.URL(), l.bootInside(ctx, c)
	}
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
		err := l.startComponents(ctx, c, c.Components())
		if !errors.Is(err, errPortTaken) || attempt == bootAttempts {
			return c.URL(), err
		}
		l.out.say("%-4s %v; trying other ports", c.Name, err)
		if err := l.endComponents(ctx, c, c.Components()); err != nil {
			return "", err
		}
		if err := os.RemoveAll(filepath.Join(c.dir, "etcd")); err != nil {
			return "", fmt.Errorf("starting over: %w", err)
		}
	}
}

// writeKubeconfigs merges the administrators' credentials of all clusters into one file, and in a lab with traffic into
// another one with the addresses that are valid inside.
func (l *Lab) writeKubeconfigs() error {
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	if err := l.writeKubeconfig(l.Kubeconfig(), clusters, Cluster.URL); err != nil {
		return err
	}
	if clusters[0].traffic == nil {
		return nil
	}
	return l.writeKubeconfig(l.InsideKubeconfig(), clusters, Cluster.InsideURL)
}

func (l *Lab) writeKubeconfig(path string, clusters []Cluster, url func(Cluster) string) error {
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
		config.Clusters[c.Name].Server = url(c)
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig of lab %s: %w", l.opts.Name, err)
	}
	return writeFile(path, data)
}

// startComponents starts components of a cluster one after the other, each when the one before it serves, and waits
// until the cluster is ready. The error wraps errPortTaken if that was the cause.
func (l *Lab) startComponents(ctx context.Context, c Cluster, components []Component) error {
	children, err := l.launchComponents(ctx, c, components)
	if err != nil {
		return err
	}
	if err := c.awaitReady(ctx, children); err != nil {
		return err
	}
	return c.settle(children)
}

// launchComponents is startComponents without the wait for the whole cluster.
func (l *Lab) launchComponents(ctx context.Context, c Cluster, components []Component) (map[Component]*child, error) {
	if c.traffic != nil {
		var err error
		if c.entry, err = l.Entry(ctx, c.Name); err != nil {
			return nil, err
		}
	}
	children := map[Component]*child{}
	for _, component := range components {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		// The log of an earlier run tells nothing about this one.
		if err := rotate(c.Log(component)); err != nil {
			return nil, err
		}
		ch, err := start(c.launch(component))
		if err != nil {
			return nil, err
		}
		children[component] = ch
		if err := c.await(ctx, component, children); err != nil {
			return nil, err
		}
	}
	return children, nil
}

// rotate moves a log away, over the one before it.
func rotate(log string) error {
	if err := os.Rename(log, strings.TrimSuffix(log, ".log")+".previous.log"); err != nil && !missing(err) {
		return fmt.Errorf("rotating a log: %w", err)
	}
	return nil
}
