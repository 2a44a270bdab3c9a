package tunnel

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// crowd bounds how many streams are served. A stream counts from its first frame on, because from then on it takes memory.
type crowd struct {
	total, perCluster int

	mu       sync.Mutex
	all      int
	clusters map[string]int
	away     atomic.Int64 // streams that are being turned away
}

// enter counts a stream, unless there are too many.
func (c *crowd) enter(cluster string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.total || c.clusters[cluster] >= c.perCluster {
		return false
	}
	c.all++
	c.clusters[cluster]++
	return true
}

func (c *crowd) leave(cluster string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.clusters[cluster]--; c.clusters[cluster] == 0 {
		delete(c.clusters, cluster)
	}
}

// open answers one stream.
func (s *Server) open(ctx context.Context, each *session, t *stream) {
	defer each.serving.Add(-1)
	inTunnel := each.serving.Add(1)
	switch cluster := each.peer.Cluster; {
	case s.draining.Load() || each.leaving.Load():
		s.turnAway(each, t, Draining, "this gateway is about to leave")
	case inTunnel > int64(s.options.Streams) || !s.crowd.enter(cluster):
		s.turnAway(each, t, Busy, "this gateway has as many streams as it may")
	default:
		defer s.crowd.leave(cluster)
		s.serveStream(ctx, each, t)
	}
}

// serveStream has the handler serve a stream, once it is known what that is for.
func (s *Server) serveStream(ctx context.Context, each *session, t *stream) {
	_ = t.SetReadDeadline(time.Now().Add(s.options.OpenTimeout))
	r, err := readOpen(t)
	in := &incoming{stream: t, datagrams: r.Datagrams, traffic: each.traffic}
	if err == nil {
		err = t.SetReadDeadline(time.Time{})
	}
	switch {
	case err != nil:
		in.answer(NotUnderstood, err.Error())
		t.discard()
	case s.draining.Load():
		in.Refuse(Draining, "this gateway is about to leave")
	default:
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		t.tell(cancel)
		s.options.Handler.Serve(ctx, each.peer, each.proof.issued, r, in)
		in.Refuse(Internal, "nobody answered")
	}
}

// politely is how many streams at a time are told why they are turned away; more are reset.
const politely = 256

// turnAway refuses a stream whatever it is for.
func (s *Server) turnAway(each *session, t *stream, code Code, message string) {
	defer s.crowd.away.Add(-1)
	if s.crowd.away.Add(1) > politely {
		each.traffic.opens[refused].Add(1)
		_ = t.Reset()
		return
	}
	_ = t.SetReadDeadline(time.Now().Add(s.options.OpenTimeout))
	in := &incoming{stream: t, traffic: each.traffic}
	in.answer(code, message)
	t.discard()
}

// discard closes a stream after what may still come of its open frame, so that there is no reset before the answer was read.
func (t *stream) discard() {
	_, _ = io.CopyN(io.Discard, t, openMaximum)
	t.closeLater()
}

// age has the other side replace a tunnel that is old. Its streams may go on: what bounds them is the certificate.
func (s *session) age(most time.Duration) {
	old := time.NewTimer(most)
	defer old.Stop()
	select {
	case <-old.C:
		s.goAway()
		s.leaveTo(nil)
	case <-s.done:
	}
}

// leaveTo lets the other side end the session when it has no more streams, because what it ends, it has read to the end.
// over is when that has to be.
func (s *session) leaveTo(over <-chan time.Time) {
	select {
	case <-s.drained():
		grace := time.NewTimer(s.timing.dead)
		defer grace.Stop()
		select {
		case <-s.done:
			return
		case <-over:
		case <-grace.C:
		}
		s.finish(errClosed)
	case <-s.done:
	case <-over:
		s.end(errClosed)
	}
}
