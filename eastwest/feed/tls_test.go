package feed_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// authority signs for the ends of a connection.
type authority struct {
	*identity.Authority
	t *testing.T
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	made, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority{made, t}
}

func (a authority) issue(id spiffeid.ID) (certPEM, keyPEM []byte) {
	a.t.Helper()
	certPEM, keyPEM, err := a.Issue(id, nil, nil, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	return certPEM, keyPEM
}

// hub is the configuration of a hub.
func (a authority) hub() *tls.Config {
	a.t.Helper()
	id, err := identity.HubID(a.TrustDomain()).SPIFFE()
	if err != nil {
		a.t.Fatal(err)
	}
	own, err := tls.X509KeyPair(a.issue(id))
	if err != nil {
		a.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.BundlePEM())
	return &tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
	}
}

// agent is the configuration of an agent that trusts the hubs of an authority.
func (a authority) agent(cluster string, trusted authority) *tls.Config {
	a.t.Helper()
	id, err := identity.ClusterID(a.TrustDomain(), cluster, identity.RoleClient).SPIFFE()
	if err != nil {
		a.t.Fatal(err)
	}
	certPEM, keyPEM := a.issue(id)
	config, err := identity.ClientConfigPEM(certPEM, keyPEM, trusted.BundlePEM())
	if err != nil {
		a.t.Fatal(err)
	}
	return config
}

// TestOnlyThoseWhoProveWhoTheyAreAreServed has an agent see what its certificate's cluster may see, and others nothing.
func TestOnlyThoseWhoProveWhoTheyAreAreServed(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	w := shop(t, 1000)
	source := xds.NewSource(xds.Options{Snapshots: w, Log: testr.New(t), Identify: func(p *peer.Peer) (xds.Identity, error) {
		id, err := identity.Identify(p)
		return xds.Identity{Cluster: id.Cluster, Role: string(id.Role), Name: id.String()}, err
	}})
	h := listenWith(t, ads.Config{Source: source, Kinds: xds.Kinds(), Log: testr.New(t), Credentials: credentials.NewTLS(ours.hub())})

	a := start(t, feed.Options{Credentials: credentials.NewTLS(ours.agent("m3", ours))}, h)
	a.reaches(w.snapshot().Sequence())
	for _, c := range []struct {
		reason string
		config *tls.Config
	}{
		{"an agent whom the hub does not trust", others.agent("m3", ours)},
		{"an agent that does not trust the hub", ours.agent("m3", others)},
		{"a cluster that is no member", ours.agent("m9", ours)},
	} {
		t.Run(c.reason, func(t *testing.T) {
			a := start(t, feed.Options{Credentials: credentials.NewTLS(c.config)}, h)
			a.until("it is refused", func() bool { return a.State().Problem != "" })
			if a.State().Connected || a.snapshot().Len() != 0 {
				t.Errorf("%s is served: %+v", c.reason, a.State())
			}
		})
	}
	if problem := a.State().Problem; strings.Contains(problem, "tls") {
		t.Errorf("the good agent has a problem: %s", problem)
	}
}
