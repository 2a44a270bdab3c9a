package dns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// build makes the hansa program of this checkout in a folder, as `make build` does, and returns its path.
func build(ctx context.Context, dir string) (string, error) {
	source, err := lab.FindSource()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "hansa")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./cmd/hansa") //nolint:gosec // G204: a path of our own
	cmd.Dir = filepath.Dir(filepath.Dir(source))                                                                                // the sources are in e2e/kubernetes
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building hansa: %w\n%s", err, output)
	}
	return path, nil
}

// standIn serves the table of services as a hub does, to whoever has a certificate of its cluster.
type standIn struct {
	addr string
	stop func() error
}

// serveTable starts a stand-in of a hub, and writes the certificate of a client in our cluster to a folder.
func serveTable(ctx context.Context, certificates string) (*standIn, error) {
	authority, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		return nil, err
	}
	config, err := hubConfig(authority)
	if err != nil {
		return nil, err
	}
	if err := writeClient(authority, certificates); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for agents: %w", err)
	}
	source := xds.NewSource(xds.Options{Snapshots: clusterset.NewLatest(snapshot()), Identify: func(p *peer.Peer) (xds.Identity, error) {
		id, err := identity.Identify(p)
		return xds.Identity{Cluster: id.Cluster, Role: string(id.Role), Name: id.String()}, err
	}})
	server := ads.New(ads.Config{Source: source, Kinds: xds.Kinds(), Credentials: credentials.NewTLS(config)})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return &standIn{addr: listener.Addr().String(), stop: func() error {
		server.Close()
		return <-done
	}}, nil
}

// hubConfig is TLS of a hub.
func hubConfig(authority *identity.Authority) (*tls.Config, error) {
	certPEM, keyPEM, err := issue(authority, identity.HubID(authority.TrustDomain()))
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the hub's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.BundlePEM())
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

// writeClient writes the certificate of a client in our cluster, as `hansa xds bootstrap` does.
func writeClient(authority *identity.Authority, dir string) error {
	certPEM, keyPEM, err := issue(authority, identity.ClusterID(authority.TrustDomain(), cluster, identity.RoleClient))
	if err != nil {
		return err
	}
	err = os.MkdirAll(dir, 0o700)
	for name, content := range map[string][]byte{identity.CAKey: authority.BundlePEM(), "tls.crt": certPEM, "tls.key": keyPEM} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	if err != nil {
		return fmt.Errorf("writing a client's certificate: %w", err)
	}
	return nil
}

func issue(authority *identity.Authority, id identity.ID) (certPEM, keyPEM []byte, err error) {
	name, err := id.SPIFFE()
	if err != nil {
		return nil, nil, err
	}
	return authority.Issue(name, nil, nil, 0)
}
