package soak_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

var domain = identity.DefaultTrustDomain()

// certificate is what a cluster's gateways show, which may be renewed. It is an x509svid.Source.
type certificate struct {
	authority *identity.Authority
	cluster   string
	now       atomic.Pointer[x509svid.SVID]
}

func newCertificate(t *testing.T, a *identity.Authority, cluster string) *certificate {
	t.Helper()
	c := &certificate{authority: a, cluster: cluster}
	if err := c.renew(); err != nil {
		t.Fatal(err)
	}
	return c
}

// GetX509SVID returns the certificate.
func (c *certificate) GetX509SVID() (*x509svid.SVID, error) { return c.now.Load(), nil }

// issued returns when it was issued.
func (c *certificate) issued() time.Time { return identity.Issued(c.now.Load().Certificates[0]) }

// renew has a new one issued.
func (c *certificate) renew() error {
	id, err := identity.ClusterID(domain, c.cluster, identity.RoleGateway).SPIFFE()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	chain, err := c.authority.Sign(key.Public(), identity.Request{ID: id})
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	own, err := x509svid.Parse(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err == nil {
		c.now.Store(own)
	}
	return err
}

// peering says how a cluster's gateways prove who they are.
func (c *certificate) peering(revoked identity.RevokedFunc) identity.Peering {
	return identity.Peering{Own: c, Roots: c.authority.Bundle(), ALPN: []string{tunnel.Protocol}, Revoked: revoked, Now: time.Now}
}

// ofPods is the configuration of pods that speak TLS, and whom their clients trust.
func ofPods(t *testing.T, a *identity.Authority) (server, client *tls.Config) {
	t.Helper()
	id, err := identity.ClusterID(domain, "pods", identity.RoleClient).SPIFFE()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := a.Issue(id, []string{webName}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.BundlePEM()) {
		t.Fatal(errors.New("no roots"))
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true},
		&tls.Config{RootCAs: roots, ServerName: webName, MinVersion: tls.VersionTLS13}
}
