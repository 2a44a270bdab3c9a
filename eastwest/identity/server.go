package identity

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
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
	// External names the Secret of an external issuer, as KeeperOptions do.
	External string
	// Source has the hub's certificate and whom to trust, instead of an authority: a Workload. Such a hub signs nothing.
	Source Source
	// Hosts are the names and IP addresses at which clients reach this server. Clients of plain TLS, as gRPC's are for xDS,
	// check them.
	Hosts []string
	// Revoked is asked at each handshake and by Identify; nil means that nothing was revoked.
	Revoked RevokedFunc
	Log     logr.Logger
	Now     func() time.Time
	Period  time.Duration
}

// Server holds the hub's own certificate, signed by the authority, and knows whom to trust. It follows the Secrets of the
// authority, and renews the certificate when a third of its life is gone. It is the Issuer for whoever enrolls. Every
// replica runs one.
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
	authority *Authority // nil when a Source has the certificate
	leaf      *x509.Certificate
	bundlePEM []byte
	config    *tls.Config
	anonymous *tls.Config // for clients that have no certificate yet
}

var _ Issuer = (*Server)(nil)

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
	old := s.get()
	next, err := s.next(ctx, old)
	if err != nil || next == nil {
		return err
	}
	s.mu.Lock()
	s.current = next
	s.mu.Unlock()
	if old == nil {
		close(s.ready)
	}
	s.options.Log.V(1).Info("Renewed the hub's certificate", "until", next.leaf.NotAfter, "hosts", s.options.Hosts)
	return nil
}

// next returns what to serve with instead of what there was; nil when that is good still.
func (s *Server) next(ctx context.Context, old *serving) (*serving, error) {
	o := &s.options
	if o.Source != nil {
		return s.fromSource(old)
	}
	authority, err := store{reader: o.Reader, namespace: o.Namespace, trustDomain: o.TrustDomain, external: o.External, now: o.Now}.issuer(ctx)
	if err != nil {
		return nil, err
	}
	if old != nil && authority.same(old.authority) && !due(old.leaf, o.Now()) {
		return nil, nil //nolint:nilnil // nothing to do is an ordinary answer
	}
	next, err := s.renew(authority)
	if err != nil {
		return nil, fmt.Errorf("renewing the certificate of the hub: %w", err)
	}
	return next, nil
}

// fromSource returns what to serve with by what the Source has; nil when it is the same as before.
func (s *Server) fromSource(old *serving) (*serving, error) {
	own, err := s.options.Source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("the certificate of the hub: %w", err)
	}
	bundle, err := s.options.Source.GetX509BundleForTrustDomain(s.options.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("whom the hub trusts: %w", err)
	}
	leaf, bundlePEM := own.Certificates[0], encodeCertificates(bundle.X509Authorities()...)
	if old != nil && leaf.Equal(old.leaf) && bytes.Equal(bundlePEM, old.bundlePEM) {
		return nil, nil //nolint:nilnil // nothing to do is an ordinary answer
	}
	pair := tls.Certificate{PrivateKey: own.PrivateKey, Leaf: leaf}
	for _, each := range own.Certificates {
		pair.Certificate = append(pair.Certificate, each.Raw)
	}
	return s.serving(pair, bundle, bundlePEM), nil
}

// same tells whether it is the same authority, and whether it trusts the same roots.
func (a *Authority) same(other *Authority) bool {
	return a.certificate.Equal(other.certificate) && bytes.Equal(a.bundlePEM, other.bundlePEM)
}

// due tells whether a third of a certificate's life is gone.
func due(certificate *x509.Certificate, now time.Time) bool {
	signed := Signed(certificate)
	return !now.Before(signed.Add(certificate.NotAfter.Sub(signed) / 3))
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
	next := s.serving(pair, authority.bundle, authority.bundlePEM)
	next.authority = authority
	return next, nil
}

// serving returns what handshakes use from now on.
func (s *Server) serving(pair tls.Certificate, bundle *x509bundle.Bundle, bundlePEM []byte) *serving {
	roots := x509.NewCertPool()
	for _, root := range bundle.X509Authorities() {
		roots.AddCert(root)
	}
	next := &serving{leaf: pair.Leaf, bundlePEM: bundlePEM}
	next.anonymous = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2"},
		Time:         s.options.Now,
		// A resumed session would not be checked again. Streams live long: a handshake each is nothing.
		SessionTicketsDisabled: true,
	}
	next.config = next.anonymous.Clone()
	next.config.ClientAuth, next.config.ClientCAs = tls.RequireAndVerifyClientCert, roots
	next.config.VerifyConnection = func(state tls.ConnectionState) error {
		if _, _, err := x509svid.Verify(state.PeerCertificates, bundle, x509svid.WithTime(s.options.Now())); err != nil {
			return &RefusedError{Reason: cmp.Or(chainReason(err), ReasonWrongIdentity), Err: err}
		}
		_, err := s.identify(&state)
		return err
	}
	return next
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

// AnonymousTLSConfig returns the configuration of a listener for clients that have no certificate yet: TLS 1.3, with which
// only the hub proves who it is. What they may do there has to be proved in another way.
func (s *Server) AnonymousTLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			current := s.get()
			if current == nil {
				return nil, errors.New("the hub has no certificate yet")
			}
			return current.anonymous, nil
		},
	}
}

// Identify returns who the other side of a connection to this server proved to be. What was revoked since, or has ended, is
// refused.
func (s *Server) Identify(p *peer.Peer) (ID, error) {
	state, err := stateOf(p)
	if err != nil {
		return ID{}, err
	}
	return s.identify(state)
}

func (s *Server) identify(state *tls.ConnectionState) (ID, error) {
	id, err := identify(s.options.TrustDomain, state, s.options.Now())
	if err != nil {
		return ID{}, &RefusedError{Reason: ReasonWrongIdentity, Err: err}
	}
	leaf := state.VerifiedChains[0][0]
	issued := Issued(leaf)
	if s.options.Source != nil {
		issued = leaf.NotBefore
	}
	if err := notRevoked(s.options.Revoked, id, issued); err != nil {
		return ID{}, err
	}
	return id, nil
}

// TrustDomain returns the trust domain of the hub.
func (s *Server) TrustDomain() spiffeid.TrustDomain { return s.options.TrustDomain }

// ErrSignsNothing says that a hub has no authority: another program gives certificates.
var ErrSignsNothing = errors.New("this hub signs no certificates: those of its trust domain come from a SPIFFE Workload API")

// Sign signs a certificate with the authority as it is now.
func (s *Server) Sign(public crypto.PublicKey, request Request) ([]byte, error) {
	current := s.get()
	switch {
	case s.options.Source != nil:
		return nil, ErrSignsNothing
	case current == nil:
		return nil, ErrNoAuthority
	}
	return current.authority.Sign(public, request)
}

// BundlePEM returns the trusted roots, which clients need to check this server by; nil until Ready.
func (s *Server) BundlePEM() []byte {
	current := s.get()
	if current == nil {
		return nil
	}
	return bytes.Clone(current.bundlePEM)
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
