package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/e2e/lab/addons"
	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// MaxTrafficMembers bounds the members of a lab with traffic: each cluster has a pod range 10.x.0.0/16 below the service
// ranges.
const MaxTrafficMembers = 50

// MaxNodes bounds the nodes of a cluster.
const MaxNodes = 9

// Traffic says how the clusters of a lab are connected whose pods run.
type Traffic struct {
	Nodes   int               `json:"nodes"`             // per cluster; 0 means 1
	Flat    bool              `json:"flat,omitempty"`    // pod ranges cross between the clusters too
	Regions map[string]string `json:"regions,omitempty"` // by cluster; default: the cluster's name
	Images  map[string]string `json:"images,omitempty"`  // programs that containers of an image run, beside those that a lab has: absolute paths by name
}

// check completes t and tells what is wrong with it.
func (t *Traffic) check(members, thin int) error {
	if t.Nodes == 0 {
		t.Nodes = 1
	}
	if t.Nodes < 1 || t.Nodes > MaxNodes {
		return fmt.Errorf("%d nodes: a cluster has 1 to %d", t.Nodes, MaxNodes)
	}
	if members+thin > MaxTrafficMembers {
		return fmt.Errorf("%d members: a lab with traffic has 0 to %d, thin ones included", members+thin, MaxTrafficMembers)
	}
	if err := checkImages(t.Images); err != nil {
		return err
	}
	names := clusterNames(members, thin)
	for cluster := range t.Regions {
		if !slices.Contains(names, cluster) {
			return fmt.Errorf("a region for cluster %q: %w; there are %s", cluster, ErrNotFound, join(names))
		}
	}
	return nil
}

// checkImages tells what is wrong with further images.
func checkImages(images map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(images)) {
		switch program := images[name]; {
		case name == "" || strings.ContainsAny(name, "/:@*?[\\"):
			return fmt.Errorf("image %q: name it without registry, tag and digest", name)
		case !filepath.IsAbs(program) || !executable(program):
			return fmt.Errorf("image %s: %q is not the absolute path of a program", name, program)
		}
	}
	return nil
}

// equal compares what cannot change while a lab is up.
func (t *Traffic) equal(other *Traffic) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.Nodes == other.Nodes && t.Flat == other.Flat && maps.Equal(t.Regions, other.Regions) && maps.Equal(t.Images, other.Images)
}

// ErrUnprivileged means that the kernel lets the caller make no network namespaces.
var ErrUnprivileged = errors.New("no network namespaces")

// networkRecord is the record of the process that holds the lab's namespaces.
func (l *Lab) networkRecord() string { return filepath.Join(l.dir, "network", "process.json") }
func (l *Lab) networkSocket() string { return filepath.Join(l.dir, "network", "control.sock") }
func (l *Lab) networkSpec() string   { return filepath.Join(l.dir, "network", "spec.json") }

// Network is the client of the lab's network; it exists in labs with traffic only.
func (l *Lab) Network() (*network.Client, error) {
	m, err := l.manifest()
	if err != nil {
		return nil, err
	}
	if m.Traffic == nil {
		return nil, fmt.Errorf("lab %s has no network of its own; make one with: hansa-lab up --traffic", l.opts.Name)
	}
	return network.NewClient(l.networkSocket()), nil
}

// startNetwork makes the namespaces of the lab and waits until they can be entered. It is given the sockets that listen
// for the clusters' API servers, which it closes: the process has its own copies.
func (l *Lab) startNetwork(ctx context.Context, m manifest, clusters []Cluster, files []*os.File) error {
	defer closeAll(files)
	spec := network.Spec{Socket: l.networkSocket(), Flat: m.Traffic.Flat, NFT: m.NFT}
	for _, c := range clusters {
		spec.Clusters = append(spec.Clusters, network.Cluster{
			Name: c.Name, Index: c.index, Nodes: c.nodeNames(), Port: c.ports.APIServer,
		})
	}
	if err := writeJSON(l.networkSpec(), spec); err != nil {
		return err
	}
	ch, err := startIsolated(launch{
		record:  l.networkRecord(),
		log:     l.networkLog(),
		command: append(slices.Clone(m.Network), l.networkSpec()),
		env:     []string{"PATH=" + systemPath(), "HOME=" + l.dir},
		files:   files,
	})
	if err != nil {
		return err
	}
	return l.awaitNetwork(ctx, ch)
}

// startIsolated starts a process in namespaces of its own: as root, or else as root of a user namespace.
func startIsolated(what launch) (*child, error) {
	what.attr = namespaces(false)
	ch, err := start(what)
	if errors.Is(err, syscall.EPERM) {
		what.attr = namespaces(true)
		ch, err = start(what)
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("%w: a lab with traffic needs root, or user namespaces, which this system refuses (%w); "+
			"look at the settings user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns", ErrUnprivileged, err)
	}
	return ch, err
}

func (l *Lab) networkLog() string { return filepath.Join(l.dir, "network", "network.log") }

// awaitNetwork waits until the network process answers.
func (l *Lab) awaitNetwork(ctx context.Context, ch *child) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	client := network.NewClient(l.networkSocket())
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		_, err := client.State(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ch.ended:
			return fmt.Errorf("the network of lab %s ended; the end of %s:\n%s", l.opts.Name, ch.Log, cause(ch.Log))
		case <-ctx.Done():
			return fmt.Errorf("waiting for the network of lab %s: %w: %w", l.opts.Name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// namespaces are what a network process is born into; with user it is root in a user namespace of its own.
func namespaces(user bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if user {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// listenerFile listens on a port of 127.0.0.1 and returns the socket as a file, which a child can inherit.
func listenerFile(port int) (*os.File, error) {
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	return listener.(*net.TCPListener).File() //nolint:forcetypeassert // what Listen returns for tcp
}

// systemPath is the caller's PATH with the folders of administrators' programs, which the PATH of others lacks.
func systemPath() string { return os.Getenv("PATH") + ":/usr/sbin:/sbin" }

// ErrNoNFT means that a lab cannot have traffic, for lack of a program.
var ErrNoNFT = errors.New("a lab with traffic needs the program nft")

// findNFT finds the program by which kube-proxy and the nodes set up their rules.
func findNFT() (string, error) {
	if path, err := exec.LookPath("nft"); err == nil {
		return filepath.Abs(path)
	}
	for _, path := range []string{"/usr/sbin/nft", "/sbin/nft"} {
		if executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w, which kube-proxy calls: install the package nftables", ErrNoNFT)
}

// networkLogger is what the network process writes its log with.
func networkLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// RunNetwork is the network process of a lab, which hansa-lab runs in namespaces of its own: it makes what the spec file
// describes and serves until ctx ends. The API servers' listeners are inherited, from file descriptor 3 on.
func RunNetwork(ctx context.Context, specFile string) error {
	var spec network.Spec
	if err := readJSON(specFile, &spec); err != nil {
		return err
	}
	listeners := make([]net.Listener, 0, len(spec.Clusters))
	for i, c := range spec.Clusters {
		f := os.NewFile(uintptr(3+i), "listener of "+c.Name)
		if f == nil {
			return fmt.Errorf("the listener of %s was not inherited", c.Name)
		}
		listener, err := net.FileListener(f)
		_ = f.Close() // FileListener has its own copy
		if err != nil {
			return fmt.Errorf("the listener of %s: %w", c.Name, err)
		}
		listeners = append(listeners, listener)
	}
	return network.Run(ctx, spec, listeners, networkLogger())
}

// connect gives the clusters of a new lab their ports and makes their networks.
func (l *Lab) connect(ctx context.Context, m manifest, clusters []Cluster) error {
	ports := NewPorts(nil)
	var files []*os.File
	for i := range clusters {
		taken, f, err := takePorts(ports)
		if err != nil {
			closeAll(files)
			return err
		}
		clusters[i].ports = taken
		files = append(files, f)
	}
	if err := l.prepareAll(m, clusters); err != nil {
		closeAll(files)
		return err
	}
	return l.startNetwork(ctx, m, clusters, files)
}

// takePorts chooses ports for a cluster, and listens on that of the API server at once, so that nobody else can take it.
func takePorts(ports *Ports) (clusterPorts, *os.File, error) {
	for attempt := 1; ; attempt++ {
		var taken clusterPorts
		for _, port := range taken.by() {
			var err error
			if *port, err = ports.Free(); err != nil {
				return clusterPorts{}, nil, err
			}
		}
		f, err := listenerFile(taken.APIServer)
		if err == nil || attempt == bootAttempts {
			return taken, f, err
		}
	}
}

// prepareAll writes the keys and configurations of all clusters and nodes.
func (l *Lab) prepareAll(m manifest, clusters []Cluster) error {
	for _, c := range clusters {
		if err := c.prepare(time.Now()); err != nil {
			return err
		}
		if err := c.address(); err != nil {
			return err
		}
		names := fmt.Sprintf("nameserver %s\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", network.DNSIP(c.index))
		if err := writeFile(c.resolvConf(), []byte(names)); err != nil {
			return err
		}
		for _, n := range c.nodes() {
			if err := n.prepare(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// reviveNetwork makes the networks of a lab anew if the process that held them is gone. What ran in the old ones is
// ended: nothing reaches it any more.
func (l *Lab) reviveNetwork(ctx context.Context, m manifest, clusters []Cluster) error {
	if m.Traffic == nil {
		return nil
	}
	r, err := readRecord(l.networkRecord())
	if err != nil {
		return err
	}
	if err := l.networkLives(ctx, r); err == nil || !errors.Is(err, network.ErrGone) {
		return err
	}
	lost, err := l.controlPlanes()
	if err != nil {
		return err
	}
	if err := end(ctx, append(lost, marked(filepath.Join(l.dir, "clusters"))...), 0); err != nil {
		return err
	}
	l.out.say("the network of lab %s was gone; making it again, with links as they are at first", l.opts.Name)
	var files []*os.File
	for _, c := range clusters {
		f, err := listenerFile(c.ports.APIServer)
		if err != nil {
			closeAll(files)
			return fmt.Errorf("making the network of lab %s again: the port of the API server of %s: %w", l.opts.Name, c.Name, err)
		}
		files = append(files, f)
	}
	return l.startNetwork(ctx, m, clusters, files)
}

// networkLives asks the network process whether it is there. One that is ending is waited for; the error is
// network.ErrGone if there is none.
func (l *Lab) networkLives(ctx context.Context, r record) error {
	if r.Activity() == Paused {
		return fmt.Errorf("the network of lab %s is paused: continue process %d first (kill -CONT %d)", l.opts.Name, r.PID, r.PID)
	}
	_, err := network.NewClient(l.networkSocket()).State(ctx)
	if errors.Is(err, network.ErrGone) {
		return errors.Join(err, end(ctx, []Process{r.Process}, downGrace))
	}
	return err
}

// verify waits until all clusters of a lab that was not made just now are as `up` promises.
func (l *Lab) verify(ctx context.Context, clusters []Cluster) error {
	for _, c := range clusters {
		if err := c.await(ctx, APIServer, nil); err != nil {
			return err
		}
		if err := c.awaitReady(ctx, nil); err != nil {
			return err
		}
		if len(c.nodes()) == 0 {
			continue
		}
		if err := c.awaitDNS(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bootInside starts the control plane of a cluster in its own network, its nodes, and its DNS.
func (l *Lab) bootInside(ctx context.Context, c Cluster) error {
	if c.thin {
		return l.startComponents(ctx, c, c.Components())
	}
	children, err := l.launchComponents(ctx, c, c.Components())
	if err != nil {
		return err
	}
	// The nodes need the API server only, so they start while the controllers do.
	if err := c.install(ctx); err != nil {
		return err
	}
	if err := l.startNodes(ctx, c, c.nodes()); err != nil {
		return err
	}
	if err := c.awaitReady(ctx, children); err != nil {
		return err
	}
	if err := c.awaitDNS(ctx); err != nil {
		return err
	}
	return c.settle(children)
}

// install makes the objects that every cluster with traffic has: its DNS, and the rights of its nodes.
func (c Cluster) install(ctx context.Context) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	api, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("making a client for cluster %s: %w", c.Name, err)
	}
	for _, object := range addons.Objects(c.index) {
		// The API server makes the namespaces of its own at its leisure.
		var refusal error
		err := c.poll(ctx, "it has the namespace "+object.GetNamespace(), nil, func(ctx context.Context) error {
			refusal = client.IgnoreAlreadyExists(api.Create(ctx, object))
			if apierrors.IsNotFound(refusal) {
				return refusal
			}
			return nil
		})
		if err = errors.Join(err, refusal); err != nil {
			return fmt.Errorf("installing %s in cluster %s: %w", object.GetName(), c.Name, err)
		}
	}
	return nil
}

// awaitDNS waits until the cluster's names can be asked for.
func (c Cluster) awaitDNS(ctx context.Context) error {
	api, err := c.clientset()
	if err != nil {
		return err
	}
	return c.poll(ctx, "its DNS answers", nil, func(ctx context.Context) error {
		deployment, err := api.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, addons.DNSName, metav1.GetOptions{})
		if err == nil && deployment.Status.AvailableReplicas == 0 {
			err = errNotReady
		}
		return err
	})
}

// node finds a node by name; the error, ErrNotFound, says nothing of those that exist.
func (l *Lab) node(name string) (node, error) {
	clusters, err := l.Clusters()
	if err != nil {
		return node{}, err
	}
	for _, c := range clusters {
		for _, n := range c.nodes() {
			if n.Name == name {
				return n, nil
			}
		}
	}
	return node{}, fmt.Errorf("node %q of lab %s: %w", name, l.opts.Name, ErrNotFound)
}

// startDeadNodes starts the nodes of a cluster that do not run.
func (l *Lab) startDeadNodes(ctx context.Context, c Cluster) (bool, error) {
	return l.startDead(ctx, c, c.nodes())
}

// startDead starts those of a cluster's nodes that do not run. It tells whether there was any.
func (l *Lab) startDead(ctx context.Context, c Cluster, nodes []node) (bool, error) {
	var dead []node
	for _, n := range nodes {
		r, err := readRecord(n.record())
		if err != nil {
			return false, err
		}
		switch r.Activity() {
		case Running:
		case Paused:
			return false, fmt.Errorf("node %s is paused: resume it first", n.Name)
		case Gone:
			dead = append(dead, n)
		}
	}
	return len(dead) > 0, l.startNodes(ctx, c, dead)
}

// processes are those of the node: its program, and all that it started.
func (n node) processes() ([]Process, error) {
	r, err := readRecord(n.record())
	if err != nil {
		return nil, err
	}
	found := marked(n.record())
	if r.Activity() != Gone {
		found = append(found, r.Process)
		found = append(found, descendants(r.PID)...)
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return slices.Compact(found), nil
}
