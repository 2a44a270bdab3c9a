package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/peer"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// DefaultPeriod is how often a Server and a Keeper look whether something is to be done. They read from a cache.
const DefaultPeriod = 5 * time.Second

// ServerOptions say what a Server needs. TrustDomain, Now and Period have defaults.
type ServerOptions struct {
	Reader      client.Reader
	Namespace   string // of the hub
	TrustDomain spiffeid.TrustDomain
	// Hosts are the names and IP addresses at which clients reach this server. Clients of plain TLS, as gRPC's are for xDS,
	// check them.
	Hosts  []string
	Log    logr.Logger
	Now    func() time.Time
	Period time.Duration
}

// Server holds the hub's own certificate, signed by the authority of AuthoritySecret, and knows whom to trust. It follows
// that Secret, and renews the certificate when a third of its life is gone. Every replica runs one.
type Server struct {
	options ServerOptions
	dns     []string
	ips     []net.IP
	ready   chan struct{}

	mu      sync.RWMutex
	current *serving
	told    string // the error that was logged last
}

// serving is what one handshake uses. It is immutable.
type serving struct {
	authority *Authority
	leaf      *x509.Certificate
	config    *tls.Config
}

// NewServer returns a Server that has no certificate until it runs.
func NewServer(o ServerOptions) *Server {
	o.TrustDomain, o.Now, o.Period = defaults(o.TrustDomain, o.Now, o.Period)
	s := &Server{options: o, ready: make(chan struct{})}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			s.ips = append(s.ips, ip)
		} else {
			s.dns = append(s.dns, host)
		}
	}
	return s
}

func defaults(td spiffeid.TrustDomain, now func() time.Time, period time.Duration) (spiffeid.TrustDomain, func() time.Time, time.Duration) {
	if td.IsZero() {
		td = DefaultTrustDomain()
	}
	if now == nil {
		now = time.Now
	}
	if period <= 0 {
		period = DefaultPeriod
	}
	return td, now, period
}

// NeedLeaderElection says that standbys serve too.
func (s *Server) NeedLeaderElection() bool { return false }

// Start keeps the certificate fresh until ctx ends. What goes wrong is logged, and tried again.
func (s *Server) Start(ctx context.Context) error {
	every(ctx, s.options.Period, nil, func() {
		err := s.Refresh(ctx)
		if ctx.Err() == nil {
			s.told = tell(s.options.Log, "xDS cannot be served with a fresh certificate", err, s.told)
		}
	})
	return nil
}

// Ready returns a channel that is closed when there is a certificate.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Refresh reads the authority and renews the certificate if it is time. It is not to be called beside Start.
func (s *Server) Refresh(ctx context.Context) error {
	o := &s.options
	authority, err := ReadAuthority(ctx, o.Reader, o.Namespace, o.TrustDomain, o.Now)
	if err != nil {
		return err
	}
	old := s.get()
	if old != nil && authority.same(old.authority) && !due(old.leaf, o.Now()) {
		return nil
	}
	next, err := s.renew(authority)
	if err != nil {
		return fmt.Errorf("renewing the certificate of the hub: %w", err)
	}
	s.mu.Lock()
	s.current = next
	s.mu.Unlock()
	if old == nil {
		close(s.ready)
	}
	o.Log.V(1).Info("Renewed the hub's certificate", "until", next.leaf.NotAfter, "hosts", o.Hosts)
	return nil
}

// same tells whether it is the same authority, and whether it trusts the same roots.
func (a *Authority) same(other *Authority) bool {
	return a.certificate.Equal(other.certificate) && bytes.Equal(a.bundlePEM, other.bundlePEM)
}

// due tells whether a third of a certificate's life is gone.
func due(certificate *x509.Certificate, now time.Time) bool {
	life := certificate.NotAfter.Sub(certificate.NotBefore)
	return !now.Before(certificate.NotBefore.Add(life / 3))
}

func (s *Server) get() *serving {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

func (s *Server) renew(authority *Authority) (*serving, error) {
	id, err := HubID(authority.trustDomain).SPIFFE()
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := authority.Issue(id, s.dns, s.ips, 0)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, root := range authority.bundle.X509Authorities() {
		roots.AddCert(root)
	}
	next := &serving{authority: authority, leaf: pair.Leaf}
	next.config = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		NextProtos:   []string{"h2"},
		Time:         s.options.Now,
		// A resumed session would not be checked again. Streams live long: a handshake each is nothing.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if _, _, err := x509svid.Verify(state.PeerCertificates, authority.bundle, x509svid.WithTime(s.options.Now())); err != nil {
				return err
			}
			_, err := identify(authority.trustDomain, &state, s.options.Now())
			return err
		},
	}
	return next, nil
}

// TLSConfig returns the configuration of a listener: TLS 1.3, with a client certificate of the trust domain. Each
// handshake uses the certificate and the roots of its time.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			current := s.get()
			if current == nil {
				return nil, errors.New("the hub has no certificate yet")
			}
			return current.config, nil
		},
	}
}

// Identify returns who the other side of a connection to this server proved to be.
func (s *Server) Identify(p *peer.Peer) (ID, error) {
	return IdentifyIn(s.options.TrustDomain, p, s.options.Now())
}

// BundlePEM returns the trusted roots, which clients need to check this server by; nil until Ready.
func (s *Server) BundlePEM() []byte {
	current := s.get()
	if current == nil {
		return nil
	}
	return current.authority.BundlePEM()
}

// every calls do now, after each period, and when woken, until ctx ends.
func every(ctx context.Context, period time.Duration, wake <-chan struct{}, do func()) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-wake:
		}
	}
}

// tell logs an error unless it was told before, and returns what was told.
func tell(log logr.Logger, doing string, err error, told string) string {
	switch {
	case err == nil:
		return ""
	case err.Error() == told:
	case errors.Is(err, ErrNoAuthority): // the leader is about to make it
		log.Info(doing, "reason", err.Error())
	default:
		log.Error(err, doing)
	}
	return err.Error()
}
