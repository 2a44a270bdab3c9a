package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// The ends of a tunnel.
var (
	errDead       = errors.New("the tunnel is dead: nothing was heard from the other gateway")
	errLeft       = errors.New("the other gateway closed the tunnel")
	errGone       = errors.New("the other gateway closed the tunnel without notice: its process may have died")
	errClosed     = errors.New("the tunnel was closed here")
	errMisbehaved = errors.New("the other gateway breaks the rules of yamux")
)

// timing is how fast a tunnel has to be.
type timing struct {
	heartbeat time.Duration
	dead      time.Duration
	linger    time.Duration // for which the other side may go on after a stream was closed here
	recheck   time.Duration // between two looks at what the other side has proved; 0: it is not looked at
}

// busy is how many times as long as otherwise a tunnel may seem silent while something waits to be read.
const busy = 10

// pingsPerBeat is how many pings may arrive between two heartbeats of ours.
const pingsPerBeat = 64

// session is one tunnel: a connection, and the streams in it.
type session struct {
	link    *link
	mux     *yamux.Session
	proof   proof
	peer    identity.ID
	timing  timing
	checked time.Time // when proof was checked last; of the heartbeat
	budget  budget
	traffic *traffic
	client  bool
	most    int // streams; a few more than the other side should open
	began   time.Time

	rtt     atomic.Int64 // nanoseconds; 0: not known
	serving atomic.Int64 // streams that the handler has
	away    atomic.Bool  // the other side takes no more streams
	left    chan struct{}
	leaving atomic.Bool // this side has said so
	leave   sync.Once
	alive   chan struct{} // closed when the other side has said something
	hello   sync.Once

	mu      sync.Mutex
	streams map[uint32]*stream
	idle    chan struct{} // closed when the last stream leaves; nil: nobody waits
	cause   error         // why it ended
	done    chan struct{} // closed when it ends
	over    chan struct{} // closed when it has

	beat struct { // of the heartbeat, under mu
		number  uint32 // of the last
		sample  uint32 // whose answer is measured
		sent    time.Time
		waiting bool // for that answer
		pings   int  // that arrived since the last
	}
	ended sync.WaitGroup // our goroutines
}

// sessionOptions are what both sides of a tunnel need.
type sessionOptions struct {
	proof   proof
	timing  timing
	budget  *budget
	traffic *traffic
	streams int  // that may wait to be accepted
	client  bool // it opens streams, and the other side does not
}

// newSession begins the session in a connection whose handshake is done.
func newSession(conn net.Conn, o sessionOptions) (*session, error) {
	now := time.Now()
	s := &session{
		proof: o.proof, peer: o.proof.peer, timing: o.timing, checked: now, budget: budget{limit: o.budget.limit / perTunnel, of: o.budget}, traffic: o.traffic, client: o.client, most: 2 * o.streams, began: now,
		left: make(chan struct{}), alive: make(chan struct{}), done: make(chan struct{}), over: make(chan struct{}), streams: map[uint32]*stream{},
	}
	s.link = newLink(conn, s, o.traffic)
	config := &yamux.Config{
		AcceptBacklog: o.streams, MaxStreamWindowSize: yamuxWindow, LogOutput: io.Discard,
		// The heartbeat ends a session that is stuck; yamux itself never gives up, because it cannot say how much it has sent.
		KeepAliveInterval: time.Hour, ConnectionWriteTimeout: math.MaxInt64,
	}
	begin := yamux.Server
	if o.client {
		begin = yamux.Client
	}
	var err error
	if s.mux, err = begin(s.link, config); err != nil {
		_ = s.link.Close()
		return nil, err
	}
	s.traffic.tunnels.Add(1)
	s.ended.Go(func() {
		if err := s.link.run(); err != nil {
			s.unsent(err)
		}
	})
	s.ended.Go(s.watch)
	s.ended.Go(s.heartbeat)
	return s, nil
}

// unsent ends the session because nothing can be sent. Most often the other side has gone, which the one who reads knows
// better.
func (s *session) unsent(err error) {
	patience := time.NewTimer(s.timing.heartbeat)
	defer patience.Stop()
	select {
	case <-s.done:
	case <-patience.C:
		s.lost(fmt.Errorf("sending to the other gateway: %w", err))
	}
}

// watch ends the session when yamux does.
func (s *session) watch() {
	<-s.mux.CloseChan()
	left := errLeft
	if s.client && !s.away.Load() { // a server says so first; a client may leave as it likes
		left = errGone
	}
	s.lost(cmp.Or(s.link.failure(), left))
}

// lost ends the session because the connection did. When one side was about to leave and nothing is lost, that is no
// trouble, however it looks to the kernel.
func (s *session) lost(cause error) {
	if (s.away.Load() || s.leaving.Load()) && s.count() == 0 {
		cause = errLeft
	}
	s.end(cause)
}

// end closes everything, and resets the streams. The first cause counts.
func (s *session) end(cause error) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.cause = cause
	streams := s.streams
	s.streams = map[uint32]*stream{}
	s.traffic.streams.Add(-int64(len(streams)))
	s.emptied()
	close(s.done)
	s.mu.Unlock()
	for _, t := range streams {
		t.abort(&ResetError{Cause: cause})
	}
	_ = s.link.Close()
	_ = s.mux.Close()
	s.traffic.tunnels.Add(-1)
	if unwanted(cause) {
		s.traffic.died.Add(1)
	}
	close(s.over)
}

// unwanted tells whether a tunnel ended for another reason than that one side wanted it.
func unwanted(cause error) bool { return !errors.Is(cause, errClosed) && !errors.Is(cause, errLeft) }

// finish ends the session after all that is queued was sent, which may take as long as a tunnel may be silent.
func (s *session) finish(cause error) {
	s.link.shutdown()
	patience := time.NewTimer(s.timing.dead)
	defer patience.Stop()
	select {
	case <-s.link.sent:
	case <-s.done:
	case <-patience.C:
	}
	s.end(cause)
}

// wait returns when the session has ended and its goroutines have.
func (s *session) wait() {
	<-s.over
	s.ended.Wait()
}

// why returns the cause of the end; nil while there is none.
func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func (s *session) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// drained returns a channel that is closed when there are no streams. It is for when no more are opened.
func (s *session) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	empty := s.idle
	if len(s.streams) == 0 {
		s.emptied()
	}
	return empty
}

// emptied is called under mu.
func (s *session) emptied() {
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// add is called under mu.
func (s *session) add(t *stream) {
	s.streams[t.id] = t
	s.traffic.streams.Add(1)
}

// remove forgets a stream. It returns false when it was forgotten already. It is called under mu.
func (s *session) remove(t *stream) bool {
	if s.streams[t.id] != t {
		return false
	}
	delete(s.streams, t.id)
	s.traffic.streams.Add(-1)
	if len(s.streams) == 0 {
		s.emptied()
	}
	return true
}

// goAway tells the other side to open no more streams. Those that it opens before it hears that are taken, to be refused
// properly: what yamux would do by itself is a reset.
func (s *session) goAway() {
	s.leaving.Store(true)
	s.link.send(frame{kind: frameAway})
}

// received is told what arrives.
func (s *session) received(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hello.Do(func() { close(s.alive) })
	switch {
	case s.cause != nil:
		return s.cause
	case f.kind == framePing:
		return s.pinged(f)
	case f.kind == frameAway:
		s.away.Store(true)
		s.leave.Do(func() { close(s.left) })
		return nil
	}
	return s.heard(f)
}

// heard is told what arrives of a stream. It is called under mu.
func (s *session) heard(f frame) error {
	if f.has(flagSYN) {
		if s.client || s.streams[f.stream] != nil || len(s.streams) >= s.most {
			return fmt.Errorf("%w: it opens a stream that it must not", errMisbehaved)
		}
		s.add(newStream(s, f.stream))
	}
	t := s.streams[f.stream]
	if t == nil {
		return nil
	}
	if f.kind == frameData && !t.arrived(f.length) {
		return fmt.Errorf("%w: a stream sends more than it may", errMisbehaved)
	}
	if f.has(flagFIN) {
		t.finIn.Store(true)
	}
	switch {
	case f.has(flagRST):
		s.remove(t)
		t.abort(&ResetError{Cause: errReset})
	case f.kind == frameData && f.length > 0 && t.closedAt.Load() != 0:
		s.refuse(t, net.ErrClosed) // nobody reads it
	}
	s.settle(t)
	return nil
}

// settle forgets a stream whose two directions have ended. It is called under mu.
func (s *session) settle(t *stream) {
	if t.finIn.Load() && t.finOut.Load() && s.remove(t) {
		t.release()
	}
}

// sending is told what yamux wants to send.
func (s *session) sending(f frame) (frame, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.kind > frameWindow {
		return f, true
	}
	if f.has(flagSYN) && s.cause == nil {
		s.add(newStream(s, f.stream))
	}
	t := s.streams[f.stream]
	if t == nil {
		return f, f.has(flagRST) // of a stream that was reset, nothing else is said
	}
	if f.has(flagFIN) {
		t.finOut.Store(true)
	}
	if f.has(flagRST) {
		s.remove(t)
		t.abort(&ResetError{Cause: errReset})
	}
	s.settle(t)
	if f.kind == frameWindow {
		f.length = 0 // the stream says itself what may be sent
		return f, f.flags != 0
	}
	return f, true
}

// reset ends a stream on both sides at once.
func (s *session) reset(t *stream, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(t, cause)
}

// refuse does what reset does. It is called under mu.
func (s *session) refuse(t *stream, cause error) {
	if s.remove(t) {
		rst := frame{kind: frameWindow, flags: flagRST, stream: t.id}
		s.link.send(rst)
		s.link.forge(rst)
	}
	t.abort(cause)
}

// pinged is called under mu. yamux answers by itself.
func (s *session) pinged(f frame) error {
	if f.has(flagSYN) {
		if s.beat.pings++; s.beat.pings > pingsPerBeat {
			return fmt.Errorf("%w: too many pings", errMisbehaved)
		}
		return nil
	}
	if s.beat.waiting && f.length == s.beat.sample {
		s.beat.waiting = false
		rtt := max(time.Since(s.beat.sent), 1)
		if old := time.Duration(s.rtt.Load()); old > 0 {
			rtt = old + (rtt-old)/4
		}
		s.rtt.Store(int64(rtt))
	}
	return nil
}

// heartbeat says something now and then, and ends the session when nothing is heard.
func (s *session) heartbeat() {
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wake := next; ; {
		select {
		case <-s.done:
			return
		case <-timer.C:
		}
		now := time.Now()
		deadline := s.link.lastHeard().Add(s.timing.dead)
		// If this process stood still, or is too busy, then what arrived meanwhile was not read yet.
		late := now.Sub(wake) > s.timing.dead/2
		if !now.Before(deadline) && !late {
			if late = now.Before(deadline.Add(busy*s.timing.dead)) && unread(s.link.conn); !late {
				s.end(errDead)
				return
			}
		}
		if !now.Before(next) {
			s.sendBeat(now)
			s.sweep(now)
			if every := s.timing.recheck; every > 0 && now.Sub(s.checked) >= every {
				s.checked = now
				_ = s.recheck()
			}
			next = now.Add(s.timing.heartbeat)
		}
		wake = next
		if !late && deadline.Before(wake) {
			wake = deadline
		}
		timer.Reset(time.Until(wake))
	}
}

// sendBeat sends a ping. One at a time is measured.
func (s *session) sendBeat(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat.pings = 0
	s.beat.number++
	if s.beat.waiting {
		s.traffic.missed.Add(1)
	} else {
		s.beat.waiting, s.beat.sample, s.beat.sent = true, s.beat.number, now
	}
	s.link.send(frame{kind: framePing, flags: flagSYN, length: s.beat.number})
}

// sweep looks after streams that do nothing: those that were closed here and are still open there are reset, and buffers
// that are empty are given back.
func (s *session) sweep(now time.Time) {
	s.mu.Lock()
	var over []*stream
	var shrink []*stream
	for _, t := range s.streams {
		switch at := t.closedAt.Load(); {
		case at != 0 && now.Sub(s.began)-time.Duration(at) > s.timing.linger:
			over = append(over, t)
		case t.resting():
			shrink = append(shrink, t)
		}
	}
	s.mu.Unlock()
	for _, t := range over {
		s.reset(t, net.ErrClosed)
	}
	for _, t := range shrink {
		t.mux.Shrink()
	}
}

// open opens a stream and waits for the answer. sent tells whether something of the request may have reached somebody.
func (s *session) open(ctx context.Context, r *Request) (_ *stream, sent bool, err error) {
	message, err := appendOpen(nil, r)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, false, err
	}
	mux, err := s.mux.OpenStream()
	if err != nil {
		return nil, false, cmp.Or(s.why(), err)
	}
	t := s.attach(mux)
	stop := context.AfterFunc(ctx, func() { s.reset(t, context.Cause(ctx)) }) // perhaps after this has returned
	if _, err = t.Write(message); err == nil {
		err = readAnswer(t)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.reset(t, net.ErrClosed)
		return nil, true, err
	}
	return t, true, nil
}

// attach finds what belongs to a stream of yamux.
func (s *session) attach(mux *yamux.Stream) *stream {
	s.mu.Lock()
	t := s.streams[mux.StreamID()]
	cause := s.cause
	s.mu.Unlock()
	if t == nil { // it was reset before we could look
		t = newStream(s, mux.StreamID())
		t.abort(&ResetError{Cause: cmp.Or(cause, errReset)})
	}
	t.attach(mux)
	return t
}
