package tunnel

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A frame of yamux: version(1) type(1) flags(2) stream(4) length(4), and for data as many octets. See its spec.md.
const (
	frameHeader = 12

	frameData   = 0
	frameWindow = 1 // length is what the other side may send in addition
	framePing   = 2 // length is a number that comes back
	frameAway   = 3 // no more streams are accepted

	flagSYN = 1 // begins a stream, or asks
	flagACK = 2 // accepts a stream, or answers
	flagFIN = 4 // ends one direction
	flagRST = 8 // ends both
)

// frame is the header of one.
type frame struct {
	kind   uint8
	flags  uint16
	stream uint32
	length uint32
}

func (f frame) has(flag uint16) bool { return f.flags&flag != 0 }

func (f frame) append(to []byte) []byte {
	to = append(to, 0, f.kind)
	to = binary.BigEndian.AppendUint16(to, f.flags)
	to = binary.BigEndian.AppendUint32(to, f.stream)
	return binary.BigEndian.AppendUint32(to, f.length)
}

func parseFrame(h []byte) (frame, error) {
	f := frame{h[1], binary.BigEndian.Uint16(h[2:]), binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])}
	if h[0] != 0 || f.kind > frameAway {
		return f, fmt.Errorf("frame of type %d in version %d, neither of which yamux has", f.kind, h[0])
	}
	return f, nil
}

// frames is told what passes through a link. Its methods must not wait.
type frames interface {
	// received may say that the link is to be broken off.
	received(f frame) error
	// sending returns what to send in place of f, or false for nothing.
	sending(f frame) (frame, bool)
}

// highWater is how many octets wait for the connection before yamux has to wait.
const highWater = 64 << 10

// link is the connection that a session of yamux reads and writes. It reads along, puts frames of its own between those of
// yamux, and sends what has piled up in one piece.
type link struct {
	conn   net.Conn // TLS
	below  *batched // what TLS writes to; nil: not known
	frames frames

	// Of the goroutine that reads.
	partial [frameHeader]byte
	have    int    // octets of partial
	body    uint32 // octets that are left of a frame of data

	heard   atomic.Int64 // when something arrived last, in nanoseconds since start
	start   time.Time
	in, out *atomic.Uint64 // octets

	// Of the goroutine of yamux that writes: a frame of data whose octets come next.
	held     frame
	expected uint32

	mu     sync.Mutex
	change *sync.Cond
	queue  []byte  // whole frames
	forged []frame // for our own yamux
	shut   bool    // nothing is added to queue any more
	closed bool
	broken error         // why reading failed first
	sent   chan struct{} // closed when nothing is sent any more
}

// queues are for what is sent. They are larger than highWater, because that is when the last frame is added.
var queues = sync.Pool{New: func() any { return new(make([]byte, 0, 2*highWater)) }}

// recycle keeps a buffer of queues for others, unless it has grown.
func recycle(b []byte) {
	if cap(b) <= 4*highWater {
		b = b[:0]
		queues.Put(&b)
	}
}

func newLink(conn net.Conn, to frames, count *traffic) *link {
	l := &link{conn: conn, frames: to, start: time.Now(), in: &count.in, out: &count.out, sent: make(chan struct{})}
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		l.below, _ = over.NetConn().(*batched)
	}
	l.change = sync.NewCond(&l.mu)
	return l
}

// lastHeard returns when something arrived last; at first, when the link began.
func (l *link) lastHeard() time.Time { return l.start.Add(time.Duration(l.heard.Load())) }

// Read is for yamux.
func (l *link) Read(p []byte) (int, error) {
	if l.have == 0 && l.body == 0 {
		if n := l.takeForged(p); n > 0 {
			return n, nil
		}
	}
	n, err := l.conn.Read(p)
	if n > 0 {
		l.heard.Store(int64(time.Since(l.start)))
		l.in.Add(uint64(n))
		if wrong := l.parse(p[:n]); wrong != nil {
			return 0, l.fail(wrong)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, l.fail(fmt.Errorf("receiving from the other gateway: %w", err))
	}
	return n, err
}

// fail keeps why reading failed, of which yamux does not tell.
func (l *link) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = cmp.Or(l.broken, err)
	return err
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// parse follows the frames in what arrived.
func (l *link) parse(p []byte) error {
	for len(p) > 0 {
		if l.body > 0 {
			n := min(uint32(len(p)), l.body) //nolint:gosec // yamux reads much less at a time than 4 GiB
			l.body -= n
			p = p[n:]
			continue
		}
		n := copy(l.partial[l.have:], p)
		l.have += n
		p = p[n:]
		if l.have < frameHeader {
			return nil
		}
		l.have = 0
		f, err := parseFrame(l.partial[:])
		if err != nil {
			return err
		}
		if f.kind == frameData {
			l.body = f.length
		}
		if err := l.frames.received(f); err != nil {
			return err
		}
	}
	return nil
}

// forge makes our own yamux believe that a frame arrived. It sees it when the next real one arrives, a heartbeat at the
// latest.
func (l *link) forge(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.forged = append(l.forged, f)
	}
}

func (l *link) takeForged(p []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.forged), len(p)/frameHeader)
	to := p[:0]
	for _, f := range l.forged[:n] {
		to = f.append(to)
	}
	if l.forged = slices.Delete(l.forged, 0, n); len(l.forged) == 0 {
		l.forged = nil
	}
	return len(to)
}

// Write is for yamux, which writes the header of a frame and then its octets.
func (l *link) Write(p []byte) (int, error) {
	if l.expected > 0 {
		return l.writeBody(p)
	}
	f, err := parseFrame(p[:frameHeader:frameHeader])
	if err != nil || len(p) != frameHeader {
		return 0, errors.Join(errors.New("yamux wrote no header of a frame"), err)
	}
	if f.kind == frameData && f.length > 0 {
		l.held, l.expected = f, f.length
		return len(p), nil
	}
	if f, ok := l.frames.sending(f); ok {
		return len(p), l.enqueue(f, nil, true)
	}
	return len(p), nil
}

func (l *link) writeBody(p []byte) (int, error) {
	if len(p) != int(l.expected) {
		return 0, fmt.Errorf("yamux wrote %d octets of a frame of %d", len(p), l.expected)
	}
	l.expected = 0
	if f, ok := l.frames.sending(l.held); ok {
		return len(p), l.enqueue(f, p, true)
	}
	return len(p), nil
}

// send adds a frame without octets. It never waits.
func (l *link) send(f frame) { _ = l.enqueue(f, nil, false) }

// enqueue adds a frame to what is sent next; if it may wait, then until there is room.
func (l *link) enqueue(f frame, body []byte, wait bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for wait && len(l.queue) >= highWater && !l.shut {
		l.change.Wait()
	}
	if l.shut {
		return net.ErrClosed
	}
	if l.queue == nil {
		l.queue = *queues.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
	}
	if len(l.queue) == 0 {
		l.change.Broadcast()
	}
	l.queue = append(f.append(l.queue), body...)
	return nil
}

// run sends what is queued until the link is shut, and all is sent, or closed. It returns why the connection failed.
func (l *link) run() error {
	defer close(l.sent)
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.shut {
			l.change.Wait()
		}
		batch, closed := l.queue, l.closed
		l.queue = nil
		l.change.Broadcast()
		l.mu.Unlock()
		if len(batch) == 0 || closed {
			return nil
		}
		if err := l.write(batch); err != nil {
			return err
		}
		l.out.Add(uint64(len(batch)))
		recycle(batch)
	}
}

func (l *link) write(batch []byte) error {
	write := func() error {
		_, err := l.conn.Write(batch)
		return err
	}
	if l.below == nil {
		return write()
	}
	return l.below.together(write)
}

// shutdown lets run end when all is sent.
func (l *link) shutdown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	l.change.Broadcast()
}

// Close ends everything. It is for yamux, too. What was sent still arrives after a shutdown, and not otherwise.
func (l *link) Close() error {
	l.mu.Lock()
	gently := l.shut && len(l.queue) == 0
	l.shut, l.closed, l.forged = true, true, nil
	l.change.Broadcast()
	l.mu.Unlock()
	return hangUp(l.conn, gently)
}

// hangUp closes the connection below TLS, which has nothing to say that the streams do not. If not gently, what was not
// sent yet is thrown away, and the other side knows at once.
func hangUp(conn net.Conn, gently bool) error {
	conn = bottom(conn)
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok && !gently {
		_ = tcp.SetLinger(0)
	}
	return conn.Close()
}

// LocalAddr and RemoteAddr are for yamux's streams.
func (l *link) LocalAddr() net.Addr  { return l.conn.LocalAddr() }
func (l *link) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }
