package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

var errReset = errors.New("the other side reset it")

// ResetError is the error of a stream that did not end as it should have: what was read from it may be cut short.
type ResetError struct{ Cause error }

func (r *ResetError) Error() string { return "the stream was reset: " + r.Cause.Error() }

// Unwrap returns the cause, unless that is the end of the tunnel's own connection: nobody may take that for the end of the
// stream, which io.EOF stands for.
func (r *ResetError) Unwrap() error {
	if errors.Is(r.Cause, io.EOF) {
		return nil
	}
	return r.Cause
}

// maxChunk is how much of a stream is sent in one frame, so that streams take turns.
const maxChunk = 32 << 10

// stream is one end of a stream of octets.
type stream struct {
	session *session
	id      uint32
	mux     *yamux.Stream

	finIn    atomic.Bool  // the other side has said all
	closing  atomic.Bool  // CloseWrite was called
	finOut   atomic.Bool  // and is on its way
	closedAt atomic.Int64 // when Close was called, in nanoseconds since the session began; 0: it was not

	mu      sync.Mutex
	window  window
	seen    int64 // what had arrived at the last sweep
	shrunk  bool
	err     error // why nothing works any more
	onAbort func(error)
}

func newStream(s *session, id uint32) *stream {
	return &stream{session: s, id: id, window: newWindow(time.Now())}
}

// attach gives it the stream of yamux that it stands for.
func (t *stream) attach(mux *yamux.Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mux = mux
	if t.err != nil {
		t.wake()
	}
}

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// wake is called under mu.
func (t *stream) wake() {
	if t.mux != nil {
		_ = t.mux.SetDeadline(past)
	}
}

// abort makes everything fail from now on. The first cause counts.
func (t *stream) abort(cause error) {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.err = cause
	t.window.release(&t.session.budget)
	t.wake()
	tell := t.onAbort
	t.mu.Unlock()
	if tell != nil {
		tell(cause)
	}
}

// release gives back what a stream needs no more that has ended as it should.
func (t *stream) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.window.release(&t.session.budget)
	}
}

// tell calls f when the stream is aborted.
func (t *stream) tell(f func(error)) {
	t.mu.Lock()
	cause := t.err
	t.onAbort = f
	t.mu.Unlock()
	if cause != nil {
		f(cause)
	}
}

func (t *stream) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// arrived counts data. It returns false when it is more than was granted.
func (t *stream) arrived(n uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.arrive(int64(n))
}

// resting tells, once, that nothing has arrived for a while and all was read.
func (t *stream) resting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen != t.window.received {
		t.seen, t.shrunk = t.window.received, false
		return false
	}
	if t.shrunk || t.mux == nil || t.window.received != t.window.consumed {
		return false
	}
	t.shrunk = true
	return true
}

// consumed counts what was read.
func (t *stream) consumed(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	more := t.window.consume(int64(n), time.Now(), time.Duration(t.session.rtt.Load()), &t.session.budget)
	if more > 0 && t.err == nil && !t.finIn.Load() {
		t.session.link.send(frame{kind: frameWindow, stream: t.id, length: more})
	}
}

// Read reads. It returns io.EOF when the other side called CloseWrite and all was read, and a *ResetError when it did not.
func (t *stream) Read(p []byte) (int, error) {
	if err := t.failure(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := t.mux.Read(p)
	if n > 0 {
		t.consumed(n)
	}
	if err == nil {
		return n, nil
	}
	// yamux says EOF when a session ends, too.
	if errors.Is(err, io.EOF) && t.finIn.Load() {
		return n, io.EOF
	}
	return n, t.wrap(err)
}

// Write writes all of p, unless it fails.
func (t *stream) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := t.failure(); err != nil {
			return written, err
		}
		if t.closing.Load() {
			return written, net.ErrClosed
		}
		chunk := p[written:min(len(p), written+maxChunk)]
		if len(chunk) == 0 {
			return written, nil
		}
		n, err := t.mux.Write(chunk)
		if written += n; err != nil {
			return written, t.wrap(err)
		}
	}
}

// wrap says what an error of yamux means.
func (t *stream) wrap(err error) error {
	if failure := t.failure(); failure != nil {
		return failure
	}
	switch {
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed):
		return net.ErrClosed
	case errors.Is(err, yamux.ErrConnectionReset):
		return &ResetError{Cause: errReset}
	}
	if cause := t.session.why(); cause != nil {
		err = cause
	}
	return &ResetError{Cause: err}
}

// CloseWrite says that nothing more is written.
func (t *stream) CloseWrite() error {
	if err := t.failure(); err != nil {
		return err
	}
	if t.closing.Swap(true) {
		return nil
	}
	_ = t.mux.Close() // it has no errors; if the session ends now, the other side sees no end
	return t.failure()
}

// Close ends both directions: what was written is delivered. When the other side still sends, or does not end within a
// while, the stream is reset.
func (t *stream) Close() error {
	t.mu.Lock()
	unread := t.err == nil && t.window.received != t.window.consumed
	t.mu.Unlock()
	if unread {
		return t.Reset()
	}
	err := t.CloseWrite()
	t.closeLater()
	return err
}

// closeLater has the stream reset if it does not end within a while, or if more arrives.
func (t *stream) closeLater() {
	t.closedAt.CompareAndSwap(0, int64(max(time.Since(t.session.began), 1)))
}

// Reset ends both directions at once.
func (t *stream) Reset() error {
	t.session.reset(t, net.ErrClosed)
	return nil
}

// LocalAddr returns the address of the tunnel here.
func (t *stream) LocalAddr() net.Addr { return t.session.link.LocalAddr() }

// RemoteAddr returns the address of the tunnel there.
func (t *stream) RemoteAddr() net.Addr { return t.session.link.RemoteAddr() }

// SetDeadline sets both deadlines.
func (t *stream) SetDeadline(at time.Time) error { return t.deadline(at, (*yamux.Stream).SetDeadline) }

// SetReadDeadline sets when Read gives up.
func (t *stream) SetReadDeadline(at time.Time) error {
	return t.deadline(at, (*yamux.Stream).SetReadDeadline)
}

// SetWriteDeadline sets when Write gives up waiting for the other side to read. While it waits for the connection it does
// not, but then the connection moves, or is soon dead.
func (t *stream) SetWriteDeadline(at time.Time) error {
	return t.deadline(at, (*yamux.Stream).SetWriteDeadline)
}

func (t *stream) deadline(at time.Time, set func(*yamux.Stream, time.Time) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	return set(t.mux, at)
}
