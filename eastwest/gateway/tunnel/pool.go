package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

var errRevoked = errors.New("the certificate of the other gateway was revoked")

// firstBackoff is what is waited after the first attempt that fails.
const firstBackoff = 50 * time.Millisecond

// pool keeps the tunnels to one peer.
type pool struct {
	dialer  *Dialer
	peer    Peer
	traffic *traffic
	cancel  context.CancelFunc

	mu   sync.Mutex
	up   []*session
	old  int // tunnels that take no new streams, and have not ended
	isUp bool
	// failing: the last attempt to connect did not succeed, or the last tunnel died.
	failing bool
	// graceful: since there was a new tunnel, the other side has said that it leaves.
	graceful bool
	stopped  bool
	problem  string
	since    time.Time
	heard    time.Time
	change   chan struct{}
}

// newPool begins to build tunnels.
func (d *Dialer) newPool(to Peer) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pool{
		dialer: d, peer: to, traffic: d.traffics.of(to.Cluster), cancel: cancel,
		since: time.Now(), change: make(chan struct{}),
	}
	for range d.options.Tunnels {
		d.running.Go(func() { p.keep(ctx) })
	}
	return p
}

// stop lets the tunnels end with their streams, and adds them to those that do.
func (p *pool) stop(leaving map[*session]bool) map[*session]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.up {
		leaving[s] = true
	}
	p.up, p.stopped = nil, true
	p.notify()
	p.cancel()
	return leaving
}

// notify wakes those that wait for a tunnel. It is called under mu.
func (p *pool) notify() {
	close(p.change)
	p.change = make(chan struct{})
}

// keep keeps one tunnel: when it ends, there is another.
func (p *pool) keep(ctx context.Context) {
	wait := firstBackoff
	for {
		s, err := p.connect(ctx)
		if ctx.Err() != nil {
			if s != nil {
				p.dialer.giveUp(s)
			}
			return
		}
		if err != nil {
			p.failed(err)
		} else if p.serve(ctx, s) > p.dialer.options.Dead {
			wait = firstBackoff // it was good: there should be another at once
			continue
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, p.dialer.options.Backoff)
	}
}

// pause waits for about as long as it is told, so that not all come back at the same moment.
func pause(ctx context.Context, about time.Duration) bool {
	timer := time.NewTimer(about/2 + rand.N(about)) //nolint:gosec // nobody has to guess it
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connect builds a tunnel.
func (p *pool) connect(ctx context.Context) (*session, error) {
	o := &p.dialer.options
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	raw, err := o.Dial(ctx, p.peer.Addr)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	tune(raw, o.Dead)
	conn := tls.Client(newBatched(raw), p.config())
	shown, err := p.handshake(ctx, conn)
	if err != nil {
		_ = hangUp(raw, false)
		return nil, err
	}
	s, err := newSession(conn, sessionOptions{
		proof: shown, timing: timing{o.Heartbeat, o.Dead, o.Linger, o.Recheck}, budget: &p.dialer.budget, traffic: p.traffic,
		streams: o.Streams + 1, client: true,
	})
	if err != nil {
		return nil, err
	}
	// What is found out from here on, Recheck tells this tunnel; what was found out since the handshake, nobody has.
	p.dialer.enrol(s)
	if err := s.recheck(); err != nil {
		p.dialer.giveUp(s)
		return nil, err
	}
	// In TLS 1.3 a client is done before the server has looked at its certificate. Only when it says something we are in.
	select {
	case <-s.alive:
		return s, nil
	case <-s.done:
		err = fmt.Errorf("the other gateway does not let us in: %w", s.why())
	case <-ctx.Done():
		err = fmt.Errorf("the other gateway says nothing: %w", ctx.Err())
	}
	p.dialer.giveUp(s)
	return nil, err
}

// enrol lets everybody know of a session that takes no streams yet.
func (d *Dialer) enrol(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaving[s] = true
}

// giveUp ends a session that has taken no streams.
func (d *Dialer) giveUp(s *session) {
	s.end(errClosed)
	s.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.leaving, s)
}

// config returns the configuration of the next connection.
func (p *pool) config() *tls.Config {
	config := p.dialer.options.TLS(p.peer.Cluster).Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{Protocol}
	config.DynamicRecordSizingDisabled = true // that is for browsers
	if config.ServerName == "" {
		config.ServerName = p.peer.Addr.Addr().String()
	}
	return config
}

// handshake makes sure that the other side is whom we want.
func (p *pool) handshake(ctx context.Context, conn *tls.Conn) (proof, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return proof{}, fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != Protocol {
		return proof{}, fmt.Errorf("the other side does not speak %s: is this the address of a gateway's tunnels?", Protocol)
	}
	shown := proof{state: &state, identify: p.dialer.options.Identify, revoked: p.dialer.options.Revoked, cluster: p.peer.Cluster}
	return shown, shown.check()
}

// failed notes that a tunnel could not be built.
func (p *pool) failed(err error) {
	p.dialer.mu.Lock()
	defer p.dialer.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if problem := err.Error(); !p.failing || p.problem != problem {
		if p.problem != problem {
			p.dialer.options.Log.Info("no tunnel could be built", "cluster", p.peer.Cluster, "gateway", p.peer.Addr.String(), "reason", problem)
		}
		p.failing, p.problem = true, problem
		p.tell()
	}
}

// tell says that something has changed. It is called under mu and that of the dialer.
//
// A gateway that said that it leaves is up until its last tunnel has ended and a new one could not be built: most often
// another process takes over. One whose tunnels died is not.
func (p *pool) tell() {
	up := len(p.up) > 0 || p.graceful && (p.old > 0 || !p.failing)
	if up != p.isUp {
		p.isUp, p.since = up, time.Now()
	}
	p.notify()
	p.dialer.notify()
}

// serve lets a tunnel take streams until it ends, or is to be replaced, and returns how long that was.
func (p *pool) serve(ctx context.Context, s *session) time.Duration {
	o := &p.dialer.options
	p.add(s)
	age := time.NewTimer(o.MaxAge - rand.N(o.MaxAge/8+1)) //nolint:gosec // nobody has to guess it
	defer age.Stop()
	patience := o.DrainTimeout
	select {
	case <-s.done:
	case <-s.left:
	case <-ctx.Done():
	case <-age.C:
		patience = 0
	}
	p.remove(s)
	p.dialer.running.Go(func() {
		if p.dialer.isClosed() {
			s.end(errClosed)
		}
		s.retire(patience)
		p.dialer.mu.Lock()
		defer p.dialer.mu.Unlock()
		delete(p.dialer.leaving, s)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.old--
		p.tell()
	})
	return time.Since(s.began)
}

// retire ends a session when its streams have, or, unless it is 0, after patience. It returns when the session has ended.
func (s *session) retire(patience time.Duration) {
	var over <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-s.drained():
		s.finish(errClosed)
	case <-over:
		s.end(errClosed)
	case <-s.done:
	}
	s.wait()
}

func (p *pool) add(s *session) {
	p.dialer.mu.Lock()
	defer p.dialer.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return // it is among those that leave
	}
	delete(p.dialer.leaving, s)
	p.up, p.failing, p.graceful, p.problem = append(p.up, s), false, false, ""
	p.tell()
}

// remove lets a session take no more streams.
func (p *pool) remove(s *session) {
	p.dialer.mu.Lock()
	defer p.dialer.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = slices.DeleteFunc(p.up, func(other *session) bool { return other == s })
	p.dialer.leaving[s] = true
	if heard := s.link.lastHeard(); heard.After(p.heard) {
		p.heard = heard
	}
	p.old++
	cause := s.why()
	p.graceful = p.graceful || cause == nil
	if cause != nil && !errors.Is(cause, errClosed) {
		p.problem = cause.Error()
		p.failing = len(p.up) == 0 && unwanted(cause)
		p.dialer.options.Log.Info("a tunnel ended", "cluster", p.peer.Cluster, "gateway", p.peer.Addr.String(), "reason", p.problem)
	}
	p.tell()
}

func (p *pool) sessions() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.up)
}

// pick chooses the tunnel for a stream: the one with fewer streams of two.
func (p *pool) pick(ctx context.Context) (*session, error) {
	for {
		s, change, err := p.choose()
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// choose returns a tunnel, or what to wait for, or an error.
func (p *pool) choose() (*session, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var usable []*session
	full := false
	for _, s := range p.up {
		switch {
		case s.away.Load() || s.why() != nil || s.mux.IsClosed():
		case s.count() >= p.dialer.options.Streams:
			full = true
		default:
			usable = append(usable, s)
		}
	}
	switch n := len(usable); {
	case n > 1:
		i := rand.IntN(n)                 //nolint:gosec // nobody has to guess it
		j := (i + 1 + rand.IntN(n-1)) % n //nolint:gosec // nor this
		if usable[j].count() < usable[i].count() {
			i = j
		}
		return usable[i], nil, nil
	case n == 1:
		return usable[0], nil, nil
	case full:
		return nil, nil, ErrFull
	case p.stopped:
		return nil, nil, ErrUnknownPeer
	case p.failing:
		return nil, nil, fmt.Errorf("%w: %s", ErrNotUp, p.problem)
	}
	return nil, p.change, nil
}

// open opens a stream in one of the tunnels.
func (p *pool) open(ctx context.Context, r *Request) (*stream, error) {
	var last error
	for attempt := 0; attempt < openAttempts; attempt++ {
		s, err := p.pick(ctx)
		if err != nil {
			return nil, also(err, last)
		}
		t, sent, err := s.open(ctx, r)
		no, answered := errors.AsType[*Refused](err)
		switch {
		case err == nil:
			return t, nil
		case answered && no.Code == Draining:
			s.leave.Do(func() { s.away.Store(true); close(s.left) })
			attempt-- // this one is not picked again
		case answered:
			return nil, err
		case sent && len(r.Data) > 0:
			return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
		case ctx.Err() != nil, sent && s.why() == nil && !s.mux.IsClosed():
			return nil, err
		}
		last = err
	}
	return nil, last
}

// also adds to an error what went wrong before, if anything did.
func also(err, before error) error {
	if before == nil {
		return err
	}
	return fmt.Errorf("%w; before that: %w", err, before)
}

func (p *pool) state() PeerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := PeerState{
		Peer: p.peer, Tunnels: len(p.up), Wanted: p.dialer.options.Tunnels, Up: p.isUp, Since: p.since, LastHeard: p.heard,
		Problem: p.problem,
	}
	if state.Tunnels == state.Wanted {
		state.Problem = ""
	}
	for _, s := range p.up {
		state.Streams += s.count()
		if rtt := time.Duration(s.rtt.Load()); rtt > 0 && (state.RTT == 0 || rtt < state.RTT) {
			state.RTT = rtt
		}
		if heard := s.link.lastHeard(); heard.After(state.LastHeard) {
			state.LastHeard = heard
		}
	}
	return state
}
