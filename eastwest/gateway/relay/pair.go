// Package relay moves octets both ways between two TCP connections.
//
// It copies what is small, through a buffer that all connections of a loop share, and splices what is large (splice(2)),
// through pipes that all share too. Memory of its own a connection has only for octets that were read and that the other
// side does not take yet; at rest it has two descriptors and a few hundred octets.
//
// The end of one direction is passed on as such while the other goes on. A reset of one side resets the other. No octet
// is lost or delivered twice, unless a side is reset.
package relay

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
)

// Side is one of the two connections.
type Side int

// The sides. What the client sends goes up.
const (
	Client Side = iota
	Server
)

func (s Side) other() Side { return 1 - s }

// Outcome is how a pair ended.
type Outcome uint8

// The outcomes.
const (
	Done        Outcome = iota // both sides have sent all they had
	ClientReset                // the client's connection broke
	ServerReset                // the server's connection broke
	Idle                       // nothing moved for too long
	Aborted                    // Abort was called
	Outcomes                   // their number
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Done:
		return "done"
	case ClientReset:
		return "client-reset"
	case ServerReset:
		return "server-reset"
	case Idle:
		return "idle"
	case Aborted:
		return "aborted"
	default:
		return "unknown"
	}
}

// Bytes counts what was delivered to either side. Many pairs may share one.
type Bytes struct{ Up, Down atomic.Uint64 }

// Thresholds of copying and splicing.
const (
	scratchSize = 16 << 10 // of one read, and so what a connection may hold at most
	largeReads  = 3        // full reads in a row after which a direction is bulky
	smallSplice = 8 << 10  // octets of a wake-up below which splicing does not pay
	smallInARow = 8        // such wake-ups after which a direction is no longer bulky
	turn        = 1 << 20  // octets after which others have their turn

	// A bulky direction is told of octets when there are many, so that a wake-up moves much; fewer wait no longer than patience.
	lowWater = 256 << 10
	patience = 2 * time.Millisecond
)

// Env is what the pairs of one loop share.
type Env struct {
	loop    *poll.Loop
	pipes   *Pipes
	idle    *poll.Limit
	tail    *poll.Limit
	scratch []byte
	buffers sync.Pool // of *[scratchSize]byte, for what the other side does not take yet
}

// NewEnv returns what the pairs of a loop need. A pair in which nothing moves for as long as idle is cut. Pipes may be
// shared by loops.
func NewEnv(loop *poll.Loop, pipes *Pipes, idle *poll.Limit) *Env {
	return &Env{
		loop: loop, pipes: pipes, idle: idle, tail: loop.Limit(patience), scratch: make([]byte, scratchSize),
		buffers: sync.Pool{New: func() any { return new([scratchSize]byte) }},
	}
}

// Pair is two connections and what is between them. Its methods are for the loop's goroutine. It may be part of something
// larger, so that a connection is one allocation.
type Pair struct {
	env   *Env
	ended func(Outcome)
	ends  [2]end
	bytes *Bytes
	timer poll.Timer
	tail  poll.Timer // while fewer octets than lowWater may wait to be read
	moved [2]int     // since it was counted last, by side that sent it
	state state
}

// state is where a pair is in its life.
type state uint8

const (
	waiting state = iota // not started; events are noted
	running
	resuming // a task of the loop's
	failing
	over
)

// end is one connection, and the flow of octets that are read from it.
type end struct {
	fd       int
	readable bool
	writable bool
	done     bool // the peer has sent all: reads go on until they say so
	ended    bool // they said so
	passed   bool // and so the other side knows
	bulky    bool // splice
	patient  bool // the kernel tells of lowWater octets, not of the first
	streak   uint8
	pipe     *pipe
	inPipe   int
	buffer   *[scratchSize]byte
	rest     []byte // of buffer, or what Start was given
}

// Note remembers events of a side, before Start too.
func (p *Pair) Note(side Side, e poll.Events) {
	n := &p.ends[side]
	n.readable = n.readable || e.Has(poll.Readable|poll.PeerDone|poll.HungUp|poll.Failed)
	n.writable = n.writable || e.Has(poll.Writable|poll.HungUp|poll.Failed)
	n.done = n.done || e.Has(poll.PeerDone|poll.HungUp|poll.Failed)
}

// Drained notes that everything that a side has sent until now was read.
func (p *Pair) Drained(side Side) { p.ends[side].readable = p.ends[side].done }

// Start begins to relay between the connected sockets, which it owns from then on; their events go to Ready. up was read
// from the client already and is delivered first; what the server does not take at once is copied. It counts in bytes,
// which may be nil. ended is called once, when both are closed; that may be before Start returns.
func (p *Pair) Start(env *Env, fds [2]int, up []byte, bytes *Bytes, ended func(Outcome)) {
	p.env, p.ended, p.bytes, p.state = env, ended, bytes, running
	if bytes == nil {
		p.bytes = &Bytes{}
	}
	p.ends[Client].fd, p.ends[Server].fd = fds[Client], fds[Server]
	env.idle.Start(&p.timer, p)
	p.ends[Client].rest = up
	f := p.deliver(Client)
	p.ends[Client].rest = slices.Clone(p.ends[Client].rest)
	if f.broken {
		p.fail(f.side)
		return
	}
	p.pump()
}

// Ready takes the events of a side.
func (p *Pair) Ready(side Side, e poll.Events) {
	p.Note(side, e)
	if p.state != running && p.state != resuming {
		return
	}
	p.pump()
	if e.Has(poll.Failed) && p.state != over { // the rest can go nowhere, or waits for somebody who takes nothing
		p.finish(broken(side))
	}
}

// Resume goes on after others had their turn.
func (p *Pair) Resume() {
	if p.state == resuming {
		p.state = running
		p.pump()
	}
}

// Expire cuts a pair in which nothing moves.
func (p *Pair) Expire() { p.finish(Idle) }

// Abort resets both sides.
func (p *Pair) Abort() { p.finish(Aborted) }

// broken is the outcome when a side's connection breaks.
func broken(side Side) Outcome {
	if side == Client {
		return ClientReset
	}
	return ServerReset
}

// fault is an error of one side's socket. The zero value is none.
type fault struct {
	side   Side
	broken bool
}

// pump moves what can be moved, in both directions.
func (p *Pair) pump() {
	if p.state == over {
		return
	}
	upMore, upFault := p.move(Client)
	downMore, downFault := p.move(Server)
	if p.count() {
		p.env.idle.Start(&p.timer, p)
	}
	if p.ends[Client].untold() || p.ends[Server].untold() {
		p.env.tail.Start(&p.tail, (*tail)(p))
	}
	switch {
	case upFault.broken:
		p.fail(upFault.side)
	case downFault.broken:
		p.fail(downFault.side)
	case p.ends[Client].passed && p.ends[Server].passed:
		p.finish(Done)
	case (upMore || downMore) && p.state == running:
		p.state = resuming
		p.env.loop.Later(p)
	}
}

// untold tells whether octets may be there that the kernel does not tell of.
func (e *end) untold() bool { return e.patient && !e.readable }

// tail reads what is left when fewer octets came than the kernel tells of.
type tail Pair

// Expire reads. A direction in which there is little is bulky no more.
func (t *tail) Expire() {
	p := (*Pair)(t)
	if p.state != running && p.state != resuming {
		return
	}
	for i := range p.ends {
		e := &p.ends[i]
		e.readable = e.readable || e.patient
		e.hurry()
	}
	p.pump()
}

// await has the kernel tell of many octets, not of the first.
func (e *end) await() {
	if !e.patient && unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, lowWater) == nil {
		e.patient = true
	}
}

// hurry ends that. Octets that came before are read by who calls it.
func (e *end) hurry() {
	if e.patient {
		e.patient = false
		_ = unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1) // it was set before
	}
}

// fail ends a pair of which one side broke. What that side has sent before is still there to be read, although the loop
// may not have told so yet.
func (p *Pair) fail(side Side) {
	p.state = failing
	p.Note(side, poll.Failed)
	p.move(side)
	p.count()
	p.finish(broken(side))
}

// count adds what was moved to the sums, and tells whether there was anything.
func (p *Pair) count() bool {
	if p.moved == [2]int{} {
		return false
	}
	p.bytes.Up.Add(uint64(p.moved[Client]))   //nolint:gosec // G115: not negative
	p.bytes.Down.Add(uint64(p.moved[Server])) //nolint:gosec // G115: likewise
	p.moved = [2]int{}
	return true
}

// move reads from one side and writes to the other until one of them has had enough, or it is the turn of others (more).
func (p *Pair) move(from Side) (more bool, f fault) {
	before := p.moved[from]
	more, f = p.transfer(from)
	if src := &p.ends[from]; src.bulky {
		p.settle(src, p.moved[from]-before)
	}
	return more, f
}

func (p *Pair) transfer(from Side) (more bool, f fault) {
	src, dst := &p.ends[from], &p.ends[from.other()]
	for read := 0; ; {
		if f := p.deliver(from); f.broken || !dst.writable {
			return false, f
		}
		switch {
		case src.ended && p.state == failing:
			return false, fault{} // a reset is on its way, and this is no regular end
		case src.ended && !src.passed:
			src.passed = true
			if dst.passed { // to close both says the same
				return false, fault{}
			}
			if err := unix.Shutdown(dst.fd, unix.SHUT_WR); err != nil {
				return false, fault{from.other(), true}
			}
			return false, fault{}
		case src.passed || !src.readable:
			return false, fault{}
		case read >= turn:
			return true, fault{}
		}
		n, f := p.read(from)
		if f.broken {
			return false, f
		}
		read += n
	}
}

// deliver writes what was read from a side before. Unless it fails, nothing is left over while the other side can be
// written to.
func (p *Pair) deliver(from Side) fault {
	src, dst := &p.ends[from], &p.ends[from.other()]
	for dst.writable && len(src.rest) > 0 {
		n, err := poll.Write(dst.fd, src.rest)
		if err == nil {
			p.moved[from] += n
			src.rest = src.rest[n:]
		} else if !again(err, &dst.writable) {
			return fault{from.other(), true}
		}
	}
	if len(src.rest) == 0 && src.buffer != nil {
		p.env.buffers.Put(src.buffer)
		src.buffer, src.rest = nil, nil
	}
	for dst.writable && src.inPipe > 0 {
		n, err := poll.Splice(src.pipe.read, dst.fd, src.inPipe)
		if err == nil {
			p.moved[from] += n
			src.inPipe -= n
		} else if !again(err, &dst.writable) {
			return fault{from.other(), true}
		}
	}
	return fault{}
}

// again tells whether an error is none: the kernel has had enough for now, and *can becomes false, or was interrupted.
func again(err error, can *bool) bool {
	if errors.Is(err, unix.EAGAIN) {
		*can = false
		return true
	}
	return errors.Is(err, unix.EINTR)
}

// read takes something from a side of which nothing is left over. What is small is written at once.
func (p *Pair) read(from Side) (int, fault) {
	src := &p.ends[from]
	if src.bulky && src.pipe == nil {
		src.pipe = p.env.pipes.take()
	}
	if src.pipe != nil {
		n, err := poll.Splice(src.fd, src.pipe.write, p.env.pipes.size)
		if err != nil {
			return 0, fault{from, !again(err, &src.readable)}
		}
		src.ended = n == 0
		src.inPipe = n
		return n, fault{}
	}
	n, err := poll.Read(src.fd, p.env.scratch)
	if err != nil {
		return 0, fault{from, !again(err, &src.readable)}
	}
	if n == 0 {
		src.ended = true
		return 0, fault{}
	}
	p.weigh(src, n)
	return n, p.pass(from, p.env.scratch[:n])
}

// weigh decides, by the size of a read, whether there is more to read and whether a direction is bulky.
func (p *Pair) weigh(src *end, n int) {
	if n == scratchSize {
		if src.streak++; src.streak >= largeReads {
			src.bulky, src.streak = true, 0
		}
		return
	}
	src.streak = 0
	if !src.done {
		src.readable = false // a short read of a stream has taken everything (epoll(7))
	}
}

// settle is the end of a wake-up of a bulky direction: the pipe goes back unless there is something in it.
func (p *Pair) settle(src *end, moved int) {
	if src.pipe != nil && src.inPipe == 0 {
		p.env.pipes.give(src.pipe, true)
		src.pipe = nil
	}
	if moved >= smallSplice {
		src.streak = 0
		src.await()
	} else if src.streak++; src.streak >= smallInARow && src.pipe == nil {
		src.bulky, src.streak = false, 0
	}
}

// pass writes what is in the loop's buffer, and keeps what the other side does not take.
func (p *Pair) pass(from Side, b []byte) fault {
	src := &p.ends[from]
	src.rest = b
	if f := p.deliver(from); f.broken || len(src.rest) == 0 {
		src.rest = nil
		return f
	}
	src.buffer, _ = p.env.buffers.Get().(*[scratchSize]byte)
	src.rest = src.buffer[:copy(src.buffer[:], src.rest)]
	return fault{}
}

// finish closes both sides: with a reset, unless everything was delivered.
func (p *Pair) finish(o Outcome) {
	if p.state == over || p.state == waiting {
		return
	}
	p.state = over
	p.timer.Stop()
	p.tail.Stop()
	for i := range p.ends {
		e := &p.ends[i]
		if e.pipe != nil {
			p.env.pipes.give(e.pipe, e.inPipe == 0)
		}
		if e.buffer != nil {
			p.env.buffers.Put(e.buffer)
		}
		e.pipe, e.buffer, e.rest = nil, nil, nil
		if o != Done {
			_ = unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		p.env.loop.Close(e.fd)
	}
	p.ended(o)
}
