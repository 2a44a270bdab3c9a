package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// siteCommand makes the benchmark's program the gateway of one cluster, as `hansa agent` puts it together.
const siteCommand = "gateway-site"

// near is the cluster of the clients. It has no endpoints.
const near = "near"

// globalService is what is called, at servicePort.
var globalService = clusterset.Key{Namespace: "bench", Name: "web"}

const servicePort = 80

// member is a cluster as its neighbours know it.
type member struct {
	ID        string
	Region    string
	Tunnel    netip.AddrPort // of its gateway; zero: it has none
	Endpoints []netip.AddrPort
}

// siteSpec says what a gateway is to be.
type siteSpec struct {
	Cluster                 string
	Certificate, Key, Roots []byte         // PEM
	Listen                  netip.AddrPort // for tunnels; zero: none
	Outbound                netip.AddrPort // for clients; zero: none
	Members                 []member
	Guests                  []string // clusters without endpoints, which may use what there is
	FirstFlight, NoRace     bool
}

// siteState is where it serves.
type siteState struct{ Listen netip.AddrPort }

// snapshot is the table that the site has.
func (s *siteSpec) snapshot() *clusterset.Snapshot {
	b := clusterset.NewBuilder(0)
	own := clusterset.Cluster{ID: s.Cluster, Network: s.Cluster, Region: "here", DataPlane: clusterset.Up}
	if s.Outbound.IsValid() {
		own.Gateways = []clusterset.Gateway{{Inside: s.Outbound.Addr(), Health: clusterset.Up}}
		b.SetImport(s.Cluster, globalService, clusterset.Import{
			GatewayPorts: []clusterset.GatewayPort{{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: s.Outbound.Port()}},
		})
	}
	b.SetCluster(own)
	for _, guest := range s.Guests {
		b.SetCluster(clusterset.Cluster{ID: guest, Network: guest})
	}
	properties := &clusterset.Properties{Ports: []clusterset.Port{{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: servicePort}}}
	for i, m := range s.Members {
		if m.ID != s.Cluster {
			c := clusterset.Cluster{ID: m.ID, Network: m.ID, Region: m.Region, DataPlane: clusterset.Up}
			if m.Tunnel.IsValid() {
				c.Gateways = []clusterset.Gateway{{Addr: m.Tunnel.Addr(), Tunnel: m.Tunnel.Port(), Health: clusterset.Up}}
			}
			b.SetCluster(c)
		}
		b.SetExport(m.ID, globalService, clusterset.Export{Created: time.Unix(int64(i), 0), Properties: properties})
		groups := make([]clusterset.Group, 0, len(m.Endpoints))
		for _, e := range m.Endpoints { // each has a port of its own
			groups = append(groups, clusterset.Group{
				Ports:     []clusterset.TargetPort{{Name: clusterset.Intern("tcp"), Protocol: corev1.ProtocolTCP, Port: e.Port()}},
				Endpoints: []clusterset.Endpoint{{Addr: e.Addr(), Conditions: clusterset.Ready | clusterset.Serving}},
			})
		}
		b.SetEndpoints(m.ID, globalService, clusterset.Endpoints{Groups: groups})
	}
	if s.FirstFlight {
		b.SetPolicy(globalService, clusterset.Policy{FirstFlight: true})
	}
	return b.Publish()
}

// peering is how the site proves who it is.
func (s *siteSpec) peering() (identity.Peering, error) {
	td := identity.DefaultTrustDomain()
	own, err := x509svid.Parse(s.Certificate, s.Key)
	if err != nil {
		return identity.Peering{}, fmt.Errorf("reading the certificate of %s: %w", s.Cluster, err)
	}
	roots, err := x509bundle.Parse(td, s.Roots)
	if err != nil {
		return identity.Peering{}, fmt.Errorf("reading the roots: %w", err)
	}
	return identity.Peering{Own: own, Roots: roots, TrustDomain: td, ALPN: []string{tunnel.Protocol}}, nil
}

// serveSite is the child: it is told once what it is, and then asked nothing.
func serveSite(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	running := 0
	err := child.Serve(ctx, in, out, func(ctx context.Context, spec siteSpec) (siteState, error) {
		latest := clusterset.NewLatest(spec.snapshot())
		peering, err := spec.peering()
		if err != nil {
			return siteState{}, err
		}
		var state siteState
		if spec.Listen.IsValid() {
			server, err := newInbound(ctx, &spec, latest, peering)
			if err != nil {
				return state, err
			}
			if state.Listen, err = netip.ParseAddrPort(server.Addr().String()); err != nil {
				return state, err
			}
			running++
			go func() { ended <- server.Run(ctx) }()
		}
		if spec.Outbound.IsValid() {
			gateway, dialer, err := newOutbound(&spec, latest, peering)
			if err != nil {
				return state, err
			}
			running++
			go func() {
				defer dialer.Close()
				ended <- gateway.Run(ctx)
			}()
			<-gateway.Ready()
			return state, warm(ctx, dialer)
		}
		return state, nil
	})
	cancel()
	for range running {
		err = errors.Join(err, <-ended)
	}
	return err
}

func newInbound(ctx context.Context, spec *siteSpec, latest *clusterset.Latest, peering identity.Peering) (*tunnel.Server, error) {
	handler, err := inbound.New(inbound.Options{Snapshots: latest, Cluster: spec.Cluster})
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", spec.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("listening for tunnels: %w", err)
	}
	return tunnel.NewServer(tunnel.ServerOptions{
		Listener: listener, TLS: peering.ServerConfig(), Identify: peering.Identify, Handler: handler, DrainTimeout: time.Millisecond,
	})
}

func newOutbound(spec *siteSpec, latest *clusterset.Latest, peering identity.Peering) (*outbound.Gateway, *tunnel.Dialer, error) {
	dialer, err := tunnel.NewDialer(tunnel.Options{
		TLS: peering.PeerConfig, Identify: peering.Identify, DrainTimeout: time.Millisecond,
	})
	if err != nil {
		return nil, nil, err
	}
	var peers []tunnel.Peer
	for _, m := range spec.Members {
		if m.ID != spec.Cluster && m.Tunnel.IsValid() {
			peers = append(peers, tunnel.Peer{Cluster: m.ID, Addr: m.Tunnel})
		}
	}
	dialer.SetPeers(peers)
	gateway, err := outbound.New(outbound.Options{
		Snapshots: latest, Cluster: spec.Cluster, Zone: func() string { return "" }, Address: spec.Outbound.Addr(),
		Connect: connect.Options{Opener: dialer, NoRace: spec.NoRace}, DrainTimeout: time.Millisecond,
	})
	if err != nil {
		dialer.Close()
		return nil, nil, err
	}
	return gateway, dialer, nil
}

// warm waits until all tunnels are there.
func warm(ctx context.Context, dialer *tunnel.Dialer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		changed := dialer.Changed()
		up := true
		for _, peer := range dialer.State() {
			up = up && peer.Tunnels == peer.Wanted
		}
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for tunnels: %w; they are %+v", ctx.Err(), dialer.State())
		}
	}
}

// papers are what a cluster's gateway proves who it is with, in PEM.
type papers struct{ certificate, key, roots []byte }

// authority signs for all.
type authority struct{ *identity.Authority }

func newAuthority() (*authority, error) {
	a, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		return nil, err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(a.BundlePEM()) {
		return nil, errors.New("the authority has no roots")
	}
	return &authority{a}, nil
}

func (a *authority) papers(cluster string) (papers, error) {
	id, err := identity.ClusterID(a.TrustDomain(), cluster, identity.RoleGateway).SPIFFE()
	if err != nil {
		return papers{}, err
	}
	certificate, key, err := a.Issue(id, nil, nil, 0)
	if err != nil {
		return papers{}, err
	}
	return papers{certificate, key, a.BundlePEM()}, nil
}
