package enrolment

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// Limits are those of what strangers may do. Zero values stand for the defaults.
type Limits struct {
	// Calls is how many calls of strangers are served at a time (32). Those above it are refused.
	Calls int
	// Burst is how many first certificates a source address may ask for at once (60), Interval after what time for one more
	// (1 s): all nodes of a cluster may come from one address. A source is an IPv4 address or a /64 of IPv6.
	Burst    int
	Interval time.Duration
	// PerCluster is how many tokens of ServiceAccounts one cluster is asked about at a time (8): one that answers slowly keeps
	// nobody else waiting, and strangers do not overwhelm it.
	PerCluster int
	// Connections and PerSource limit open connections of strangers, in all (256) and by source (16).
	Connections, PerSource int
	// Timeout is how long one call may take (10 s), and how long a handshake.
	Timeout time.Duration
}

// What an identity may renew: all agents of a cluster have the same one. Strangers take no place away from them.
const (
	renewCalls    = 64
	renewBurst    = 256
	renewInterval = time.Second
)

func (l Limits) withDefaults() Limits {
	return Limits{
		Calls: cmp.Or(l.Calls, 32), Burst: cmp.Or(l.Burst, 60), Interval: cmp.Or(l.Interval, time.Second),
		PerCluster:  cmp.Or(l.PerCluster, 8),
		Connections: cmp.Or(l.Connections, 256), PerSource: cmp.Or(l.PerSource, 16), Timeout: cmp.Or(l.Timeout, 10*time.Second),
	}
}

// Options say what a Server needs.
type Options struct {
	Issuer identity.Issuer
	// Identify tells who shows a certificate, and refuses those that are revoked: identity.Server does.
	Identify func(*peer.Peer) (identity.ID, error)
	// ClusterID returns the id in the clusterset of a KubeFedCluster by its name, once it is known.
	ClusterID func(name string) (string, bool)
	// Joined tells whether a cluster has an id. Who is in one that has left gets no certificate any more; nil means that
	// only what was revoked ends that.
	Joined func(id string) bool
	// Tokens are the join tokens; nil means that there are none.
	Tokens *Tokens
	// Reviewer asks clusters about tokens of their ServiceAccounts; nil means that such are not taken. Account is the one
	// that agents have: AccountName.
	Reviewer TokenReviewer
	Account  string
	// Roles are those that may be had. None means agent, gateway and dns.
	Roles  []identity.Role
	Limits Limits
	Log    logr.Logger
	Now    func() time.Time // nil: time.Now
}

// Server gives certificates. Every replica of a hub runs one.
type Server struct {
	options   Options
	strangers gate   // to first certificates, by source address
	holders   gate   // to renewals, by identity
	asked     *crowd // clusters, about tokens, by their names
	metrics   metrics
}

var (
	_ enrolmentpb.EnrolmentServer    = (*Server)(nil)
	_ enrolmentpb.CertificatesServer = (*Server)(nil)
)

// NewServer returns a Server. Serve gives first certificates; Register adds renewals to another server.
func NewServer(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Roles) == 0 {
		o.Roles = []identity.Role{identity.RoleAgent, identity.RoleGateway, identity.RoleDNS}
	}
	o.Limits = o.Limits.withDefaults()
	return &Server{
		options:   o,
		strangers: gate{newLimiter(o.Limits.Burst, o.Limits.Interval, o.Now), make(chan struct{}, o.Limits.Calls)},
		holders:   gate{newLimiter(renewBurst, renewInterval, o.Now), make(chan struct{}, renewCalls)},
		asked:     newCrowd(o.Limits.PerCluster),
		metrics:   newMetrics(),
	}
}

// gate lets callers in: not too often, and so many at a time.
type gate struct {
	often  *limiter
	inside chan struct{}
}

// enter lets a caller in, or says why not. Who was let in has to leave.
func (g gate) enter(caller string) (leave func(), err error) {
	if !g.often.allow(caller) {
		return nil, deny(outcomeLimited, "this is asked for too often from here: wait a little")
	}
	select {
	case g.inside <- struct{}{}:
		return func() { <-g.inside }, nil
	default:
		return nil, deny(outcomeLimited, "the hub gives as many certificates at a time as it may: try again")
	}
}

// Register adds renewals to a server that knows its clients by their certificates: that of xDS.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	enrolmentpb.RegisterCertificatesServer(registrar, s)
}

// Collectors returns what to register.
func (s *Server) Collectors() []prometheus.Collector { return []prometheus.Collector{s.metrics.calls} }

// denial is why there is no certificate, for the caller and for the metric.
type denial struct {
	outcome string
	status  *status.Status
	why     string // for the log, where callers may not know; empty: what they are told
}

func (d *denial) Error() string { return d.status.Message() }

func deny(outcome, format string, args ...any) error {
	return &denial{outcome: outcome, status: status.Newf(codeOf[outcome], format, args...)}
}

// unavailable logs what went wrong here. A stranger is not told more than that something did.
func (s *Server) unavailable(err error, what string) error {
	s.options.Log.Error(err, "No certificate can be given")
	return deny(outcomeUnavailable, "%s: try again", what)
}

// Enroll gives a first certificate to who proves to be in a cluster. Errors have the code InvalidArgument (the request is
// wrong), Unauthenticated (the token is), PermissionDenied, ResourceExhausted or Unavailable.
func (s *Server) Enroll(ctx context.Context, request *enrolmentpb.EnrollRequest) (*enrolmentpb.Certificate, error) {
	by := proofOf(request)
	from := sourceFrom(ctx)
	return s.serve(ctx, call{name: "enroll", proof: by, from: from, gate: s.strangers, caller: from}, func(ctx context.Context) (given, error) {
		return s.enroll(ctx, request)
	})
}

// Renew gives another certificate with the same identity to who shows one. It counts as issued when its holder proved who it
// is, as the one that is shown does: nobody gets away from a revocation by renewing. Errors are as those of Enroll.
func (s *Server) Renew(ctx context.Context, request *enrolmentpb.RenewRequest) (*enrolmentpb.Certificate, error) {
	p, _ := peer.FromContext(ctx)
	id, err := s.options.Identify(p)
	var proved time.Time
	if err == nil {
		proved, err = identity.ProvedBy(p)
	}
	if err != nil {
		s.metrics.count("renew", byCertificate, outcomeDenied)
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	by := call{name: "renew", proof: byCertificate, from: sourceFrom(ctx), gate: s.holders, caller: id.String()}
	return s.serve(ctx, by, func(context.Context) (given, error) {
		if id.Cluster == "" || !slices.Contains(s.options.Roles, id.Role) {
			return given{}, deny(outcomeDenied, "the certificate of %s is not renewed here", id)
		}
		if s.options.Joined != nil && !s.options.Joined(id.Cluster) {
			return given{}, deny(outcomeDenied, "no cluster that is joined has the id %q", id.Cluster)
		}
		asked, err := ParseRequest(request.GetRequest())
		if err != nil {
			return given{}, deny(outcomeBadRequest, "%s", err)
		}
		return s.sign(asked, identity.Request{Proved: proved}, id, "certificate")
	})
}

// call is what is known of a call before anything is done.
type call struct {
	name, proof string
	from        string // the source address
	gate        gate
	caller      string
}

// given is a certificate with what the log says of it.
type given struct {
	answer *enrolmentpb.Certificate
	id     identity.ID
	proof  string
}

// serve does a call within the limits, counts it, and says in the log who got what.
func (s *Server) serve(ctx context.Context, by call, do func(context.Context) (given, error)) (*enrolmentpb.Certificate, error) {
	got, err := s.within(ctx, by, do)
	if err == nil {
		s.metrics.count(by.name, by.proof, outcomeGiven)
		s.options.Log.Info("Gave a certificate", "call", by.name, "id", got.id.String(), "proof", got.proof, "from", by.from, "certificate", describe(got.answer.GetChain()))
		return got.answer, nil
	}
	var denied *denial
	if !errors.As(err, &denied) {
		denied = &denial{outcome: outcomeUnavailable, status: status.FromContextError(err)}
	}
	s.metrics.count(by.name, by.proof, denied.outcome)
	if denied.outcome != outcomeLimited { // whoever calls too often does not fill the log either
		s.options.Log.Info("Gave no certificate", "call", by.name, "proof", by.proof, "from", by.from, "reason", cmp.Or(denied.why, denied.Error()))
	}
	return nil, denied.status.Err()
}

func (s *Server) within(ctx context.Context, by call, do func(context.Context) (given, error)) (given, error) {
	leave, err := by.gate.enter(by.caller)
	if err != nil {
		return given{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, s.options.Limits.Timeout)
	defer cancel()
	return do(ctx)
}

// maxName is the most that the name of a Kubernetes object may have.
const maxName = 253

func (s *Server) enroll(ctx context.Context, request *enrolmentpb.EnrollRequest) (given, error) {
	role := identity.Role(request.GetRole())
	switch {
	case !slices.Contains(s.options.Roles, role):
		return given{}, deny(outcomeDenied, "there is no such role to be had; the roles are %v", s.options.Roles)
	case len(request.GetCluster()) > maxName:
		return given{}, deny(outcomeBadRequest, "the name of the cluster is too long")
	}
	asked, err := ParseRequest(request.GetRequest())
	if err != nil {
		return given{}, deny(outcomeBadRequest, "%s", err)
	}
	now := s.options.Now() // before the proof is looked at: what is revoked meanwhile stays so
	proved, err := s.prove(ctx, request)
	if err != nil {
		return given{}, err
	}
	cluster, known := s.options.ClusterID(proved.cluster)
	if !known {
		return given{}, deny(outcomeUnavailable, "cluster %q is not joined, or its id is not known yet: try again", proved.cluster)
	}
	got, err := s.sign(asked, identity.Request{Proved: now}, identity.ClusterID(s.options.Issuer.TrustDomain(), cluster, role), proved.what)
	if err != nil || proved.use == nil {
		return got, err
	}
	// Everything else is done: what fails after this costs the caller the token.
	err = proved.use(ctx)
	switch {
	case errors.Is(err, ErrToken):
		return given{}, deny(outcomeToken, "%s", ErrToken)
	case err != nil:
		return given{}, s.unavailable(err, "the hub could not use up the join token")
	}
	return got, nil
}

// sign signs what was asked for.
func (s *Server) sign(asked Request, request identity.Request, id identity.ID, what string) (given, error) {
	name, err := id.SPIFFE()
	if err != nil {
		return given{}, s.unavailable(err, "there is no identity for this")
	}
	if err := asked.For(name); err != nil {
		return given{}, deny(outcomeDenied, "%s", err)
	}
	request.ID = name
	chain, err := s.options.Issuer.Sign(asked.Public, request)
	if err != nil {
		return given{}, s.unavailable(err, "the hub cannot sign")
	}
	roots := s.options.Issuer.BundlePEM()
	if len(roots) == 0 {
		return given{}, s.unavailable(errors.New("there are no roots"), "the hub cannot sign")
	}
	return given{id: id, proof: what, answer: &enrolmentpb.Certificate{
		Chain: chain, Roots: roots, TrustDomain: s.options.Issuer.TrustDomain().Name(),
	}}, nil
}

// describe says which certificate is the first of a chain.
func describe(chain []byte) string {
	block, _ := pem.Decode(chain)
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("serial number %x until %s", leaf.SerialNumber, leaf.NotAfter.UTC().Format(time.RFC3339))
}

func proofOf(request *enrolmentpb.EnrollRequest) string {
	switch request.GetProof().(type) {
	case *enrolmentpb.EnrollRequest_JoinToken:
		return byToken
	case *enrolmentpb.EnrollRequest_ServiceAccountToken:
		return byAccount
	}
	return byNothing
}

// sourceFrom returns which caller a call counts as.
func sourceFrom(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	return sourceOf(p.Addr)
}

// domainOf returns the trust domain or the default one.
func domainOf(td spiffeid.TrustDomain) spiffeid.TrustDomain {
	if td.IsZero() {
		return identity.DefaultTrustDomain()
	}
	return td
}
