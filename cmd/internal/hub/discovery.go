package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// drainTimeout is how long clients are given to move to another hub before their streams end.
const drainTimeout = 2 * time.Second

// clusterStreams is how many streams one identity may have: all gRPC clients of a cluster share one.
const clusterStreams = 4096

// allStreams is how many streams there may be in all: no cluster alone takes the place of the others.
const allStreams = 16 * clusterStreams

// discovery serves xDS: every replica of the hub does, from what it watches itself.
type discovery struct {
	listener net.Listener
	server   *ads.Server
	talks    *agents.Server // on the same port
	// ready are what has to happen before a client is answered: a certificate, and a table that is complete.
	ready []<-chan struct{}
	log   logr.Logger
}

// NeedLeaderElection says that standbys serve too.
func (d *discovery) NeedLeaderElection() bool { return false }

// Start serves until ctx ends, and then hands the clients over.
func (d *discovery) Start(ctx context.Context) error {
	for _, ready := range d.ready {
		select {
		case <-ready:
		case <-ctx.Done():
			return d.close()
		}
	}
	d.log.Info("Serving xDS", "address", d.listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(d.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving xDS at %s: %w", d.listener.Addr(), err)
	case <-ctx.Done():
	}
	d.talks.Drain() // or the other server would wait for these streams
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := d.server.Drain(over, drainTimeout/2); err != nil {
		d.log.Info("Clients of xDS were cut off", "reason", err.Error())
	}
	if err := <-served; err != nil {
		d.log.V(1).Info("The server of xDS has ended", "reason", err.Error())
	}
	return nil
}

// close gives up a listener that was never served.
func (d *discovery) close() error {
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the listener of xDS: %w", err)
	}
	return nil
}

// newDiscovery makes the server of xDS with its collectors.
func newDiscovery(listener net.Listener, snapshots xds.Snapshots, all *identities, talks *agents.Server, log logr.Logger) (*discovery, []prometheus.Collector) {
	who := all.who
	source := xds.NewSource(xds.Options{
		Snapshots: snapshots,
		Identify: func(p *peer.Peer) (xds.Identity, error) {
			id, err := who.Identify(p)
			if err != nil {
				return xds.Identity{}, err
			}
			return xds.Identity{Cluster: id.Cluster, Role: string(id.Role), Name: id.String()}, nil
		},
		Log: log,
	})
	d := &discovery{listener: listener, talks: talks, log: log, ready: []<-chan struct{}{who.Ready()}}
	d.server = ads.New(ads.Config{
		Source: source, Kinds: xds.Kinds(), Log: log,
		Limits:      ads.Limits{Streams: allStreams, StreamsPerClient: clusterStreams},
		Credentials: all.door,
		Register: func(registrar grpc.ServiceRegistrar) {
			if all.enrol != nil {
				all.enrol.Register(registrar)
			}
			talks.Register(registrar, adminsOnly(who))
			statusv3.RegisterClientStatusDiscoveryServiceServer(registrar, xds.NewStatus(clients{d}, adminsOnly(who)))
		},
	})
	return d, append(d.server.Collectors(), source.Collectors()...)
}

// clients asks the server for its clients when somebody asks, since the server is not made yet when its services are.
type clients struct{ *discovery }

func (c clients) Clients() []ads.ClientState { return c.server.Clients() }

// adminsOnly lets nobody but admins look at who is connected.
func adminsOnly(who *identity.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return status.Error(codes.Unauthenticated, "who asks is not known")
		}
		id, err := who.Identify(p)
		if err != nil {
			return status.Error(codes.Unauthenticated, err.Error())
		}
		if !id.Admin() {
			return status.Errorf(codes.PermissionDenied, "%s may not see who is connected; only an admin may", id)
		}
		return nil
	}
}

// listen opens the address of a flag; nil when it is turned off.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	if address == off {
		return nil, nil //nolint:nilnil // off is an ordinary answer
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for clients and agents (--%s; \"0\" turns it off): %w", flag, err)
	}
	return listener, nil
}

// advertised is where clients reach a listener: what the flag says, else the address it is bound to, else this machine's
// name. A flag without a port has the listener's.
func advertised(flag string, bound net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", fmt.Errorf("reading the address of a listener: %w", err)
	}
	if flag != "" {
		return withPort(flag, port)
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return bound.String(), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding out how others reach this hub; say so: %w", err)
	}
	return net.JoinHostPort(name, port), nil
}

func withPort(address, port string) (string, error) {
	host, given, err := net.SplitHostPort(address)
	if err != nil {
		if net.ParseIP(address) == nil && (address == "" || len(address) != len(hostOnly(address))) {
			return "", fmt.Errorf("%q: want HOST or HOST:PORT", address)
		}
		return net.JoinHostPort(address, port), nil
	}
	if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q: want HOST or HOST:PORT", address)
	}
	return address, nil
}

// hostOnly is the part of a name before any character that no host name has.
func hostOnly(name string) string {
	for i, c := range name {
		if c != '.' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return name[:i]
		}
	}
	return name
}

// hosts are the names and addresses that the certificate of xDS is good for.
func hosts(address string) []string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	return []string{host}
}

// collectors are several collectors as one.
type collectors []prometheus.Collector

// Describe describes all.
func (c collectors) Describe(out chan<- *prometheus.Desc) {
	for _, each := range c {
		each.Describe(out)
	}
}

// Collect collects all.
func (c collectors) Collect(out chan<- prometheus.Metric) {
	for _, each := range c {
		each.Collect(out)
	}
}
