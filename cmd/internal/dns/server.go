package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
)

// Snapshots hands out the newest snapshot.
type Snapshots = dns.Snapshots

// Options are what a Server is made of.
type Options struct {
	Flags *Flags
	// Snapshots make the names. Instead of them, Static has the names, the same for all.
	Snapshots Snapshots
	Static    *zone.Tree
	// Sockets opens sockets; nil: they are the server's own.
	Sockets listen.Sockets
	// Drain is how long the server takes to stop at most; 0 is 5 s.
	Drain time.Duration
	Log   logr.Logger
}

// Server is a DNS server: a responder with its sockets.
type Server struct {
	responder *dns.Responder
	sockets   *listen.Server
	serving   atomic.Bool
	ended     chan struct{} // closed when Run does
	log       logr.Logger
}

// New reads what the flags name, and opens the sockets. What arrives before Run waits. The error names the flag.
func New(o Options) (*Server, error) {
	f := o.Flags
	if flag, viewed := f.Viewed(); viewed && o.Static != nil {
		return nil, fmt.Errorf("--%s goes with a hub: zone files say all of it themselves, and the same to everybody", flag)
	}
	config, err := f.responder(o.Log)
	if err != nil {
		return nil, err
	}
	config.Snapshots, config.Static = o.Snapshots, o.Static
	certificates, err := f.tlsConfig(o.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{responder: dns.New(config), ended: make(chan struct{}), log: o.Log}
	s.sockets, err = listen.New(listen.Options{
		UDP: f.Addrs, TLS: f.TLSAddrs, HTTPS: f.HTTPSAddrs, Sockets: o.Sockets, TLSConfig: certificates, DrainTimeout: o.Drain, Log: o.Log,
	}, s.responder)
	if err != nil {
		return nil, fmt.Errorf("opening the sockets of DNS (--%saddr): %w", f.prefix, err)
	}
	if a := config.Askers; o.Static == nil && a.Default.Cluster == "" && len(a.Listeners)+len(a.Sources) == 0 {
		o.Log.Info(fmt.Sprintf("Everybody who asks counts as outside of all clusters, and gets no addresses in %s; --%scluster, --%ssource and --%slistener say otherwise",
			config.Zone.ClusterSet, f.prefix, f.prefix, f.prefix))
	}
	if config.Sign != nil {
		s.tellKeys(config)
	}
	return s, nil
}

// tellKeys logs what the parents of the zones have to publish.
func (s *Server) tellKeys(o dns.Options) {
	zones := []string{o.Zone.ClusterSet, o.Zone.PerCluster}
	for _, each := range o.Zone.External {
		zones = append(zones, each.Zone)
	}
	for _, each := range o.Zone.KubeFed {
		zones = append(zones, each.Zone)
	}
	if o.Static != nil {
		zones = nil
		for apex := range o.Static.Zones() {
			zones = append(zones, apex.Name())
		}
	}
	for _, name := range zones {
		wire, err := zone.Wire(name)
		if name == "" || err != nil {
			continue
		}
		if ds := o.Sign.DS(zone.Presentation(wire)); ds != nil {
			s.log.Info("Answers are signed; the parent zone publishes this for them to be trusted", "zone", name, "ds", ds.String())
		}
	}
}

// Addrs returns where the server answers over a transport.
func (s *Server) Addrs(over listen.Transport) []netip.AddrPort { return s.sockets.Addrs(over) }

// Run answers until ctx ends. Then it finishes what is under way, and returns nil. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx)) // up to date to the last answer
	var follower sync.WaitGroup
	follower.Go(func() { s.responder.Run(following) })
	defer follower.Wait()
	defer stop()
	s.serving.Store(true)
	defer s.serving.Store(false)
	defer close(s.ended)
	for over := range listen.Transports {
		if addrs := s.Addrs(over); len(addrs) > 0 {
			s.log.Info("Serving DNS", "over", over.String(), "addresses", addrs)
		}
	}
	if err := s.sockets.Run(ctx); err != nil {
		return fmt.Errorf("serving DNS: %w", err)
	}
	return nil
}

// Close gives up the sockets of a server that is never run.
func (s *Server) Close() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return s.sockets.Run(over) //nolint:wrapcheck // Run says it
}

// SetStale says whether answers may be behind because nobody vouches for what they come from.
func (s *Server) SetStale(stale bool) { s.responder.SetStale(stale) }

// Check is a readiness check: it fails unless the server answers, from something.
func (s *Server) Check(*http.Request) error {
	switch {
	case !s.serving.Load():
		return errors.New("the DNS server does not run")
	case !s.responder.Ready():
		return errors.New("no names are known yet: there is no snapshot, from a hub or from disk")
	}
	return nil
}

// Collectors are the server's metrics.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.responder.Collector(), newSockets(s.sockets.Stats)}
}

// Tap returns the HTTP handler that streams samples of queries, until the server ends; see Watch.
func (s *Server) Tap() http.Handler { return tap{s.responder.Tap(), s.ended} }
