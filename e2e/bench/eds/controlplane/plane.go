package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// plane is the control plane.
type plane struct {
	server  *grpc.Server
	running sync.WaitGroup
	awake   chan struct{} // holds one: there are changes
	ended   chan struct{}

	mu      sync.Mutex
	serving bool // earlier changes are in what is taken over
	changes []Change
}

func newPlane() *plane {
	return &plane{awake: make(chan struct{}, 1), ended: make(chan struct{})}
}

func (p *plane) close() {
	close(p.ended)
	if p.server != nil {
		p.server.Stop()
	}
	p.running.Wait()
}

// changed notes a change for the next round.
func (p *plane) changed(c Change) {
	p.mu.Lock()
	if p.serving {
		p.changes = append(p.changes, c)
	}
	p.mu.Unlock()
	select {
	case p.awake <- struct{}{}:
	default:
	}
}

func (p *plane) take() []Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	changes := p.changes
	p.changes = nil
	return changes
}

// update brings changes into the caches, those at once that came while it was at work.
func (p *plane) update(views map[string]*view) {
	for {
		select {
		case <-p.awake:
		case <-p.ended:
			return
		}
		changes := p.take()
		for _, v := range views {
			if err := v.apply(changes); err != nil {
				_, _ = fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}

// serve takes over what each group is served, and serves it.
func (p *plane) serve(ctx context.Context, s serve, patience time.Duration) ([]clients.Group, error) {
	if p.server != nil {
		return nil, errors.New("it serves already")
	}
	views := map[string]*view{}
	for _, g := range s.Groups {
		v, err := fetch(ctx, g, patience)
		if err != nil {
			return nil, err
		}
		views[kindOf(nodeOf(g))] = v
	}
	var options []grpc.ServerOption
	if s.Dir != "" {
		config, err := certify(s.Dir)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for clients: %w", err)
	}
	p.mu.Lock()
	p.serving = true
	p.mu.Unlock()
	p.server = grpc.NewServer(options...)
	caches := muxed(views)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, service{
		whole: sotw.NewServer(ctx, caches, nil), incremental: delta.NewServer(ctx, caches, nil),
	})
	p.running.Go(func() { p.update(views) })
	p.running.Go(func() { _ = p.server.Serve(listener) }) // until Stop
	own := make([]clients.Group, 0, len(s.Groups))
	for _, g := range s.Groups {
		g.Address, g.Dir = listener.Addr().String(), s.Dir
		own = append(own, g)
	}
	return own, nil
}

// service is the gRPC face of the servers for both protocols.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	whole       sotw.Server
	incremental delta.Server
}

func (s service) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.whole.StreamHandler(stream, resource.AnyType)
}

func (s service) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.incremental.DeltaStreamHandler(stream, resource.AnyType)
}

// certify makes an authority, writes a client's certificate to a folder, and returns TLS of a server that asks for it.
func certify(dir string) (*tls.Config, error) {
	authority, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := issue(authority, identity.ClusterID(authority.TrustDomain(), "bench", identity.RoleClient))
	if err != nil {
		return nil, err
	}
	err = os.MkdirAll(dir, 0o700)
	for name, content := range map[string][]byte{identity.CAKey: authority.BundlePEM(), "tls.crt": certPEM, "tls.key": keyPEM} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	if err != nil {
		return nil, fmt.Errorf("writing the certificate of clients: %w", err)
	}
	if certPEM, keyPEM, err = issue(authority, identity.HubID(authority.TrustDomain())); err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.BundlePEM())
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

func issue(authority *identity.Authority, id identity.ID) (certPEM, keyPEM []byte, err error) {
	name, err := id.SPIFFE()
	if err != nil {
		return nil, nil, err
	}
	return authority.Issue(name, nil, nil, 0)
}
