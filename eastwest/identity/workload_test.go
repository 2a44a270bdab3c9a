package identity_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// workloadAPI is a server of the SPIFFE Workload API, as SPIRE's agent is one.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	mu      sync.Mutex
	svids   []*x509svid.SVID
	roots   []*x509.Certificate
	changed chan struct{}
}

func (w *workloadAPI) set(roots []*x509.Certificate, svids ...*x509svid.SVID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.svids, w.roots = svids, roots
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
}

func (w *workloadAPI) answer() (*workload.X509SVIDResponse, <-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	answer := &workload.X509SVIDResponse{}
	for _, svid := range w.svids {
		chain, key, err := svid.MarshalRaw()
		if err != nil {
			return nil, nil, err
		}
		one := &workload.X509SVID{SpiffeId: svid.ID.String(), X509Svid: chain, X509SvidKey: key}
		for _, root := range w.roots {
			one.Bundle = append(one.Bundle, root.Raw...)
		}
		answer.Svids = append(answer.Svids, one)
	}
	return answer, w.changed, nil
}

// FetchX509SVID tells what there is, and then each change.
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("workload.spiffe.io")) == 0 {
		return status.Error(codes.InvalidArgument, "the security header is missing")
	}
	for {
		answer, changed, err := w.answer()
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (w *workloadAPI) serve(t *testing.T) (address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, w)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "unix://" + path
}

func open(t *testing.T, o identity.WorkloadOptions) (*identity.Workload, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o.Log = logr.Discard()
	w, err := identity.OpenWorkload(ctx, o)
	if err == nil {
		t.Cleanup(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return w, err
}

func awaitChange(t *testing.T, changed <-chan struct{}, until func() bool, again func() <-chan struct{}) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !until() {
		select {
		case <-changed:
			changed = again()
		case <-deadline:
			t.Fatal("nothing changed")
		}
	}
}

func TestWorkload(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	trusted := authority.Bundle().X509Authorities()
	api := &workloadAPI{}
	client, first := issueBy(t, authority, identity.ClusterID(domain, "m1", identity.RoleClient)), issueBy(t, authority, gateway("m1"))
	api.set(trusted, client, first)
	address := api.serve(t)
	source, err := open(t, identity.WorkloadOptions{Address: address, Role: identity.RoleGateway})
	if err != nil {
		t.Fatal(err)
	}
	got, err := source.GetX509SVID()
	if err != nil || got.ID != first.ID {
		t.Fatalf("of several, the gateway's is wanted: %v, %v", got, err)
	}

	// SPIRE renews it, and its root.
	other := newAuthority(t, c)
	second := issueBy(t, other, gateway("m1"))
	changed := source.Changed()
	api.set(append(trusted, other.Certificate()), second)
	awaitChange(t, changed, func() bool {
		now, err := source.GetX509SVID()
		return err == nil && now.Certificates[0].Equal(second.Certificates[0])
	}, source.Changed)
	bundle, err := source.GetX509BundleForTrustDomain(domain)
	if err != nil || len(bundle.X509Authorities()) != 2 {
		t.Errorf("roots: %v, %v", bundle, err)
	}
	far := identity.Peering{Own: issueBy(t, authority, gateway("m2")), Roots: bundle, Now: c.Now}
	near := identity.Peering{Own: source, Roots: source, Foreign: true, Now: c.Now}
	if _, _, serverErr, clientErr := handshake(t, far.ServerConfig(), near.PeerConfig("m2")); serverErr != nil || clientErr != nil {
		t.Error(serverErr, clientErr)
	}

	// SPIRE's administrator takes the registration away: what is left is somebody else's.
	changed = source.Changed()
	api.set(trusted, client)
	awaitChange(t, changed, func() bool {
		_, err := source.GetX509SVID()
		return err != nil && strings.Contains(err.Error(), "no certificate that is of use")
	}, source.Changed)
}

func TestWorkloadRefuses(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	api := &workloadAPI{}
	api.set(authority.Bundle().X509Authorities(), issueBy(t, authority, gateway("m1")))
	address := api.serve(t)
	for name, tc := range map[string]struct {
		reason  string
		options identity.WorkloadOptions
		want    string
	}{
		"Role":    {reason: "The program is registered as something else.", options: identity.WorkloadOptions{Address: address, Role: identity.RoleHub}, want: "Register this program"},
		"Cluster": {reason: "It is registered in another cluster.", options: identity.WorkloadOptions{Address: address, Role: identity.RoleGateway, Cluster: "m2"}, want: "cluster/m1/gateway"},
		"Address": {reason: "Not a socket.", options: identity.WorkloadOptions{Address: "http://x"}, want: "Workload API"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := open(t, tc.options); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v, want an error with %q", tc.reason, err, tc.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := identity.OpenWorkload(ctx, identity.WorkloadOptions{Address: "unix:///nowhere.sock", Role: identity.RoleHub, Log: logr.Discard()}); err == nil {
		t.Error("nobody is there, and somebody answers")
	}
}

// fixed is a Source of what a test says.
type fixed struct {
	*x509svid.SVID
	*x509bundle.Bundle
}

func (fixed) Changed() <-chan struct{} { return nil }

// TestServerWithSource is a hub whose certificate comes from SPIRE: it signs nothing.
func TestServerWithSource(t *testing.T) {
	c := newClock()
	authority := newAuthority(t, c)
	source := &fixed{issueBy(t, authority, identity.HubID(domain)), authority.Bundle()}
	revoked := time.Time{}
	server := identity.NewServer(identity.ServerOptions{
		Source: source, Log: logr.Discard(), Now: c.Now,
		Revoked: func(_ string, issued time.Time) bool { return issued.Before(revoked) },
	})
	refresh := func() {
		t.Helper()
		if err := server.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refresh()
	refresh()
	client := identity.HubClient{Own: issueBy(t, authority, gateway("m1")), Roots: authority.Bundle(), Now: c.Now}.Config()
	_, _, serverErr, clientErr := handshake(t, server.TLSConfig(), client)
	if err := errors.Join(serverErr, clientErr); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Sign(makeKey(t).Public(), identity.Request{}); !errors.Is(err, identity.ErrSignsNothing) {
		t.Errorf("it signs: %v", err)
	}
	source.SVID = issueBy(t, authority, identity.HubID(domain))
	refresh()
	_, atClient, _, err := handshake(t, server.TLSConfig(), client)
	if err != nil || !atClient.PeerCertificates[0].Equal(source.Certificates[0]) {
		t.Errorf("the renewed certificate is not shown: %v", err)
	}
	revoked = c.Now()
	if _, _, serverErr, _ = handshake(t, server.TLSConfig(), client); identity.ReasonOf(serverErr) != identity.ReasonRevoked {
		t.Errorf("revoked: %v", serverErr)
	}
}
