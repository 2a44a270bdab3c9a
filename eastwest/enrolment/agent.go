package enrolment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

const (
	// Renewal is after what time a certificate is renewed, or after a third of its life if that is sooner. Up to a tenth of
	// it is taken off by chance, so that agents that started together do not come together.
	Renewal = 24 * time.Hour

	// firstWait and lastWait are how long an Agent waits after a first failure, and at most; each wait is twice the last.
	firstWait = time.Second
	lastWait  = 5 * time.Minute
	// look is how often an Agent looks at the clock, which may jump.
	look = time.Minute
	// rest is how long a new certificate is kept at least: one that ends too soon, or is refused, is no reason to ask all the
	// time.
	rest = 30 * time.Second
	// patience is how long one call to one hub may take.
	patience = 15 * time.Second
)

// AgentOptions say what an Agent needs.
type AgentOptions struct {
	// Dir is where key, certificate and roots are kept. It is created if need be.
	Dir string
	// Enroll and Renew return where hubs are, HOST:PORT each, for a first certificate (the port of enrolment) and for the
	// next ones (that of xDS). They are asked each time; the first hub that answers is good.
	Enroll, Renew func() []string
	// RootsFile holds the roots, in PEM, by which to know the hub at first contact. There is no first contact without.
	RootsFile string
	// JoinTokenFile holds a join token, AccountTokenFile that of the ServiceAccount; either may be empty. They are read each
	// time. The ServiceAccount's is preferred: it does not wear out.
	JoinTokenFile, AccountTokenFile string
	// Cluster is the name of the KubeFedCluster. It may be empty with a join token.
	Cluster string
	Role    identity.Role
	// TrustDomain is the default one when it is zero.
	TrustDomain spiffeid.TrustDomain
	Log         logr.Logger
	Now         func() time.Time                                            // nil: time.Now
	Dial        func(ctx context.Context, address string) (net.Conn, error) // nil: TCP
}

// Agent keeps the identity of an agent: it gets a certificate, renews it, and gives it to whoever connects or listens. It
// is an identity.Source.
type Agent struct {
	options AgentOptions
	ready   chan struct{}
	renewed *prometheus.CounterVec

	mu      sync.RWMutex
	held    *holding // nil: there is none yet
	problem error    // why the last attempt failed
	changed chan struct{}

	used  string        // the ID of the join token that is worn out
	next  time.Time     // when to renew
	hurry chan struct{} // somebody thinks that it should be now
}

var _ identity.Source = (*Agent)(nil)

// NewAgent returns an Agent with what its directory keeps. What is there and cannot be used is an error, except that it has
// ended: that mends itself.
func NewAgent(o AgentOptions) (*Agent, error) {
	o.TrustDomain = domainOf(o.TrustDomain)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		var dialer net.Dialer
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	a := &Agent{
		options: o, ready: make(chan struct{}), changed: make(chan struct{}), hurry: make(chan struct{}, 1),
		renewed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_identity_renewals_total", Help: "Attempts to get or renew the agent's certificate by outcome: renewed, enrolled, failed.",
		}, []string{"outcome"}),
	}
	held, err := load(o.Dir, o.TrustDomain)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w. Remove it, and enroll again", err)
	case held == nil:
	case held.id.Role != o.Role:
		return nil, fmt.Errorf("%s keeps the identity of %s, wanted is the role %s. Remove it, and enroll again", o.Dir, held.id, o.Role)
	default:
		a.used = held.kept.UsedToken
		a.take(held)
	}
	return a, nil
}

// take holds a certificate from now on.
func (a *Agent) take(held *holding) {
	now := a.options.Now()
	a.next = renewalOf(held, rand.N(Renewal/10)) //nolint:gosec // chance, not secrecy
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held, a.problem = held, nil
	close(a.changed)
	a.changed = make(chan struct{})
	select {
	case <-a.ready:
	default:
		if held.good(now) {
			close(a.ready)
		}
	}
}

// renewalOf returns when a certificate is to be renewed.
func renewalOf(held *holding, early time.Duration) time.Time {
	signed := identity.Signed(held.leaf())
	return signed.Add(min(Renewal-early, held.leaf().NotAfter.Sub(signed)/3))
}

func (a *Agent) get() *holding {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.held
}

// Ready returns a channel that is closed once there is a certificate that has not ended.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// ErrNotEnrolled says that an agent has no certificate yet.
var ErrNotEnrolled = errors.New("the agent has no certificate yet")

// GetX509SVID implements x509svid.Source.
func (a *Agent) GetX509SVID() (*x509svid.SVID, error) {
	if held := a.get(); held != nil {
		return held.svid, nil
	}
	return nil, ErrNotEnrolled
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (a *Agent) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	held := a.get()
	if held == nil {
		return nil, ErrNotEnrolled
	}
	return held.bundle.GetX509BundleForTrustDomain(td)
}

// Changed implements identity.Source.
func (a *Agent) Changed() <-chan struct{} {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.changed
}

// AgentState is how it is with an agent's certificate.
type AgentState struct {
	ID      identity.ID // zero: there is none yet
	Until   time.Time
	Problem error // of the last attempt; nil when it succeeded
}

// State returns how it is.
func (a *Agent) State() AgentState {
	a.mu.RLock()
	defer a.mu.RUnlock()
	state := AgentState{Problem: a.problem}
	if a.held != nil {
		state.ID, state.Until = a.held.id, a.held.leaf().NotAfter
	}
	return state
}

// Collectors returns what to register.
func (a *Agent) Collectors() []prometheus.Collector {
	return []prometheus.Collector{a.renewed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hansa_identity_expiry_timestamp_seconds", Help: "When the agent's certificate ends, in seconds since 1970; 0 while there is none.",
	}, func() float64 {
		if until := a.State().Until; !until.IsZero() {
			return float64(until.Unix())
		}
		return 0
	})}
}

// Hurry has the Agent get another certificate soon, because the present one was refused or revoked. Calling it often is as
// good as once: a certificate is kept for half a minute at least.
func (a *Agent) Hurry() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// Refused is to be told why a connection to a hub failed: it is what identity.Credentials wants. When the hub does not
// accept the certificate, or its own is signed by somebody unknown, it is time for another one.
func (a *Agent) Refused(err error) {
	switch identity.ReasonOf(err) {
	case identity.ReasonRefusedByPeer, identity.ReasonWrongCA:
		a.Hurry()
	default:
	}
}

// Run gets a certificate and keeps it fresh until ctx ends. What goes wrong is logged, and tried again, for as long as it
// takes: a certificate outlives a hub that is away for weeks.
func (a *Agent) Run(ctx context.Context) error {
	wait, told := firstWait, ""
	for ctx.Err() == nil {
		if due := a.next.Sub(a.options.Now()); a.get() != nil && due > 0 {
			a.rest(ctx, min(due, look))
			continue
		}
		switch err := a.obtain(ctx); {
		case err == nil:
			wait, told = firstWait, ""
		case ctx.Err() == nil:
			a.fail(err, &told)
			pause(ctx, wait-wait/4+rand.N(wait/2)) //nolint:gosec // chance, not secrecy
			wait = min(2*wait, lastWait)
		}
	}
	return nil
}

// fail notes and logs why an attempt failed; the same reason once.
func (a *Agent) fail(err error, told *string) {
	a.renewed.WithLabelValues(outcomeFailed).Inc()
	a.mu.Lock()
	a.problem = err
	held := a.held
	a.mu.Unlock()
	if err.Error() == *told {
		return
	}
	*told = err.Error()
	switch {
	case held == nil:
		a.options.Log.Error(err, "There is no certificate yet; trying again")
	case !held.good(a.options.Now()):
		a.options.Log.Error(err, "The certificate has ended and could not be renewed; trying again", "id", held.id.String(), "ended", held.leaf().NotAfter)
	default:
		a.options.Log.Info("The certificate could not be renewed; trying again", "id", held.id.String(), "until", held.leaf().NotAfter, "reason", err.Error())
	}
}

// rest waits while there is a certificate, or until somebody is in a hurry.
func (a *Agent) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.hurry:
		a.next = later(a.options.Now(), identity.Signed(a.get().leaf()).Add(rest))
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
