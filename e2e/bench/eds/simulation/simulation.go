// Package simulation is a hub without Kubernetes, in a process of its own: it fills the table of services from nothing,
// serves it as the hub does, and changes it when told. It shows what the hub costs at sizes for which no lab has room.
//
// The clusters stand in regions of ten. Pods of a region reach each other; other regions are reached by two gateways per
// cluster. A client is in the cluster whose port it connects to, so there is no TLS.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/peer"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Subcommand is the argument that makes the benchmark's program a simulated hub.
const Subcommand = "simulated-hub"

// Sizes of the simulated world.
const (
	perRegion = 10 // clusters
	zones     = 3  // of a region; every cluster has pods in all of them
	pods      = 3  // of a service in a cluster, one in each zone
	gateways  = 2  // of a cluster
	namespace = "bench"
)

// command is one thing to do: the first field that is set.
type command struct {
	Build   *build  `json:"build,omitempty"`
	Change  *Change `json:"change,omitempty"`
	Measure bool    `json:"measure,omitempty"`
	Profile string  `json:"profile,omitempty"` // path of a file for a profile of the processors, until the next command of this kind
}

type build struct {
	Clusters int `json:"clusters"`
	Services int `json:"services"`
}

// Change is about the first pod of a service in a cluster: it gets another address, or is not ready any more. Only the
// region sees addresses; everybody sees how many pods are ready.
type Change struct {
	Cluster int    `json:"cluster"`
	Service int    `json:"service"`
	Address string `json:"address,omitempty"` // empty: the pod is not ready
}

// Reply is the answer to a command.
type Reply struct {
	Addresses []string      `json:"addresses,omitempty"` // where the clients of each cluster connect to
	Took      time.Duration `json:"took,omitempty"`      // for building the table, or for publishing a change
	At        int64         `json:"at,omitempty"`        // when the change came in, in nanoseconds since 1970
	Memory    rig.Memory    `json:"memory"`              // after a garbage collection, if it was measured
	Heap      int64         `json:"heap,omitempty"`      // likewise, in bytes
}

// hub is the simulated hub.
type hub struct {
	build

	builder   *clusterset.Builder
	latest    *clusterset.Latest
	server    *ads.Server
	clusters  map[int]string // by port
	addresses []string
	serving   sync.WaitGroup
}

// Serve carries out the commands from in until it ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	h := &hub{clusters: map[int]string{}}
	defer h.close()
	return child.Serve(ctx, in, out, func(_ context.Context, c command) (Reply, error) {
		switch {
		case c.Build != nil && h.server == nil:
			return h.start(*c.Build)
		case h.server == nil:
			return Reply{}, errors.New("there is no table of services")
		case c.Change != nil:
			return h.change(*c.Change)
		case c.Measure:
			return measure()
		case c.Profile != "":
			return Reply{}, h.record(c.Profile)
		}
		return Reply{}, errors.New("no such command")
	})
}

// record ends a profile and begins another one.
func (h *hub) record(path string) error {
	pprof.StopCPUProfile()
	file, err := os.Create(path) //nolint:gosec // G304: where the user wants it
	if err != nil {
		return fmt.Errorf("saving a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("starting a profile: %w", err), file.Close())
	}
	return nil
}

func (h *hub) close() {
	pprof.StopCPUProfile()
	if h.server != nil {
		h.server.Close()
	}
	h.serving.Wait()
}

func (h *hub) start(size build) (Reply, error) {
	began := time.Now()
	h.build = size
	h.builder = clusterset.NewBuilder(uint64(began.UnixNano()))
	for i := range h.Clusters {
		h.builder.SetCluster(clusterOf(i))
		for n := range h.Services {
			h.builder.SetExport(clusterName(i), Key(n), clusterset.Export{Created: time.Unix(int64(i+1), 0), Properties: &clusterset.Properties{
				Ports: []clusterset.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
			}})
			h.builder.SetEndpoints(clusterName(i), Key(n), endpoints(i, n))
		}
	}
	h.latest = clusterset.NewLatest(h.builder.Publish())
	took := time.Since(began)
	h.server = ads.New(ads.Config{
		Source: xds.NewSource(xds.Options{Snapshots: h.latest, Identify: h.identify, Log: logr.Discard()}),
		Kinds:  xds.Kinds(), Log: logr.Discard(),
	})
	for i := range h.Clusters {
		if err := h.listen(i); err != nil {
			return Reply{}, err
		}
	}
	return Reply{Took: took, Addresses: h.addresses}, nil
}

func (h *hub) listen(cluster int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the server
	if err != nil {
		return fmt.Errorf("listening for the clients of %s: %w", clusterName(cluster), err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("%s is no TCP address", listener.Addr())
	}
	h.clusters[address.Port] = clusterName(cluster)
	h.addresses = append(h.addresses, address.String())
	h.serving.Go(func() { _ = h.server.Serve(listener) })
	return nil
}

// identify tells the cluster of a client by the port that it connected to.
func (h *hub) identify(p *peer.Peer) (xds.Identity, error) {
	address, ok := p.LocalAddr.(*net.TCPAddr)
	if !ok {
		return xds.Identity{}, errors.New("the connection is not TCP")
	}
	cluster := h.clusters[address.Port]
	return xds.Identity{Cluster: cluster, Role: "client", Name: cluster}, nil
}

func (h *hub) change(c Change) (Reply, error) {
	now := endpoints(c.Cluster, c.Service)
	pod := &now.Groups[0].Endpoints[0]
	if c.Address == "" {
		pod.Conditions = clusterset.Serving
	} else {
		var err error
		if pod.Addr, err = netip.ParseAddr(c.Address); err != nil {
			return Reply{}, fmt.Errorf("changing a pod's address: %w", err)
		}
	}
	began := time.Now()
	h.builder.SetEndpoints(clusterName(c.Cluster), Key(c.Service), now)
	h.latest.Publish(h.builder.Publish())
	return Reply{At: began.UnixNano(), Took: time.Since(began)}, nil
}

func measure() (Reply, error) {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	memory, err := rig.MemoryOf(os.Getpid())
	return Reply{Memory: memory, Heap: int64(stats.HeapAlloc)}, err //nolint:gosec // G115: memory is not that large
}

// Address is that of the pod that changes, in the beginning.
func Address(cluster, service int) string { return podAddress(cluster, service, 0).String() }

// Zones is how the zones of a cluster's region begin.
func Zones(cluster int) string { return region(cluster) + "-" }

// Key is the identity of a service.
func Key(number int) clusterset.Key {
	return clusterset.Key{Namespace: namespace, Name: fmt.Sprintf("s%04d", number)}
}

// Zone is one of the zones that a cluster has pods in.
func Zone(cluster, number int) string {
	return fmt.Sprintf("%s-%c", region(cluster), 'a'+number%zones)
}

// Region returns the clusters of a cluster's region, of so many in all, as the first of them and their number.
func Region(cluster, clusters int) (first, count int) {
	first = cluster / perRegion * perRegion
	return first, min(perRegion, clusters-first)
}

func region(cluster int) string { return fmt.Sprintf("r%d", cluster/perRegion) }

func clusterName(number int) string { return fmt.Sprintf("c%03d", number) }

func clusterOf(number int) clusterset.Cluster {
	c := clusterset.Cluster{
		ID: clusterName(number), Network: region(number), Region: region(number),
		ControlPlane: clusterset.Up, DataPlane: clusterset.Up,
	}
	for k := range gateways {
		c.Gateways = append(c.Gateways, clusterset.Gateway{
			Addr: netip.AddrFrom4([4]byte{192, 168, byte(number), byte(10 + k)}), Port: 15443, Health: clusterset.Up, //nolint:gosec // G115: up to a hundred
		})
	}
	return c
}

// podAddress is the address of a pod in the beginning. Pods of different networks may share one.
func podAddress(cluster, service, pod int) netip.Addr {
	number := service*pods + pod
	return netip.AddrFrom4([4]byte{10, byte(10 + cluster%perRegion), byte(number / 250), byte(number%250 + 1)}) //nolint:gosec // G115: small numbers
}

func endpoints(cluster, service int) clusterset.Endpoints {
	group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Protocol: corev1.ProtocolTCP, Port: 8080}}}
	for pod := range pods {
		group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
			Addr: podAddress(cluster, service, pod), Node: clusterset.Intern(fmt.Sprintf("%s-n%d", clusterName(cluster), pod)),
			Zone: clusterset.Intern(Zone(cluster, pod)), Conditions: clusterset.Ready | clusterset.Serving,
		})
	}
	return clusterset.Endpoints{Groups: []clusterset.Group{group}}
}

// Process is a simulated hub. Its methods are for one goroutine.
type Process struct{ child *child.Process }

// Start starts the process, with nothing in it.
func Start(ctx context.Context) (*Process, error) {
	c, err := child.Start(ctx, Subcommand)
	if err != nil {
		return nil, err
	}
	return &Process{child: c}, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.child.PID() }

// Build fills the table and serves it.
func (p *Process) Build(clusters, services int) (Reply, error) {
	return p.call("building the simulated services", command{Build: &build{clusters, services}})
}

// Change publishes a change.
func (p *Process) Change(c Change) (Reply, error) {
	return p.call("changing a simulated service", command{Change: &c})
}

// Measure collects garbage and tells what is left.
func (p *Process) Measure() (Reply, error) {
	return p.call("measuring the simulated hub", command{Measure: true})
}

// Profile writes a profile of the processors to a file, until the next Profile or the end.
func (p *Process) Profile(path string) error {
	_, err := p.call("profiling the simulated hub", command{Profile: path})
	return err
}

// Stop ends the process.
func (p *Process) Stop() { p.child.Stop() }

func (p *Process) call(what string, c command) (r Reply, err error) {
	if err := p.child.Call(c, &r); err != nil {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}
