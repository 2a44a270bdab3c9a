package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// senderCommand makes the benchmark's program a sender.
const senderCommand = "dns-sender"

// load is what a sender is asked to do.
type load struct {
	To     netip.AddrPort
	Rate   float64       // queries per second, whatever the answers; 0: as many as Window allows
	Window int           // queries that may be under way; 0: any number
	For    time.Duration // at most maxFor
}

// maxFor and maxRate bound a sender, whatever it is asked.
const (
	maxFor  = 30 * time.Second
	maxRate = 2e6
)

// outcome is what came of it.
type outcome struct {
	Sent, Answered int
	Errors         int // answers that are neither NOERROR nor NXDOMAIN
	Missing        int // NXDOMAIN
	Elapsed        time.Duration
	P50, P99       time.Duration // from when a query was due until its answer
}

func serveSender(ctx context.Context, in io.Reader, out io.Writer) error {
	queries, err := packed(mix(20_000))
	if err != nil {
		return err
	}
	return child.Serve(ctx, in, out, func(ctx context.Context, l load) (outcome, error) {
		return send(ctx, l, queries)
	})
}

// burstSize is how many packets go through the kernel at once.
const burstSize = 32

// ids is the number of queries that can be told apart.
const ids = 1 << 16

// sender has one thread that sends and one that receives, on one socket.
type sender struct {
	load    load
	queries [][]byte
	fd      int
	began   time.Time

	due      [ids]atomic.Int64 // nanoseconds since began, by id; 0: not under way
	sent     atomic.Int64
	answered atomic.Int64
	over     atomic.Bool

	delays          []float64 // of the receiver, in nanoseconds
	errors, missing int
}

// send carries a load out.
func send(ctx context.Context, l load, queries [][]byte) (outcome, error) {
	if l.For <= 0 || l.For > maxFor || l.Rate < 0 || l.Rate > maxRate || l.Rate == 0 && l.Window == 0 {
		return outcome{}, fmt.Errorf("a load of %v per second for %v is not for this sender", l.Rate, l.For)
	}
	if !l.To.Addr().IsLoopback() {
		return outcome{}, fmt.Errorf("%s is not on this machine", l.To)
	}
	fd, err := connect(l.To)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	s := &sender{load: l, queries: queries, fd: fd, began: time.Now()}
	var receiver sync.WaitGroup
	var received error
	receiver.Go(func() { received = s.receive() })
	err = s.send(ctx)
	elapsed := time.Since(s.began)
	s.over.Store(true)
	receiver.Wait()
	o := outcome{
		Sent: int(s.sent.Load()), Answered: int(s.answered.Load()), Errors: s.errors, Missing: s.missing, Elapsed: elapsed,
		P50: time.Duration(result.Percentile(s.delays, 50)), P99: time.Duration(result.Percentile(s.delays, 99)),
	}
	return o, errors.Join(err, received)
}

func connect(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) // else what the host allows
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connecting a socket to %s: %w", to, err)
	}
	return fd, nil
}

// packets is the memory of one direction.
type packets struct {
	headers [burstSize]struct {
		header unix.Msghdr
		length uint32
	}
	parts  [burstSize]unix.Iovec
	octets [burstSize][4096]byte
}

func newPackets() *packets {
	p := &packets{}
	for i := range p.headers {
		p.parts[i].Base = &p.octets[i][0]
		p.parts[i].SetLen(len(p.octets[i]))
		p.headers[i].header.Iov = &p.parts[i]
		p.headers[i].header.SetIovlen(1)
	}
	return p
}

func (p *packets) call(trap, fd, n, flags int) (int, error) {
	done, _, errno := unix.Syscall6(uintptr(trap), uintptr(fd),
		uintptr(unsafe.Pointer(&p.headers[0])), uintptr(n), uintptr(flags), 0, 0) //nolint:gosec // G103: for the kernel
	if errno != 0 {
		return 0, errno
	}
	return int(done), nil
}

// send sends queries when they are due, until the time is over. It does not wait for answers, but for the window.
func (s *sender) send(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, sent := newPackets(), 0
	var stuck time.Duration // since when the window is full
	for {
		now := time.Since(s.began)
		if now >= s.load.For || ctx.Err() != nil {
			return nil
		}
		n := s.ready(now, sent)
		if n == 0 {
			if s.load.Window > 0 && now-stuck > 100*time.Millisecond { // lost: begin anew
				s.answered.Store(s.sent.Load())
				stuck = now
			}
			continue
		}
		stuck = now
		for i := range n {
			s.put(p, i, sent+i, now)
		}
		done, err := p.call(unix.SYS_SENDMMSG, s.fd, n, 0)
		switch {
		case err == nil:
			sent += done
			s.sent.Store(int64(sent))
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNREFUSED):
			return fmt.Errorf("sending queries to %s: %w", s.load.To, err)
		}
	}
}

// ready returns how many queries are to be sent now.
func (s *sender) ready(now time.Duration, sent int) int {
	if s.load.Rate > 0 {
		return max(0, min(burstSize, int(now.Seconds()*s.load.Rate)-sent))
	}
	return max(0, min(burstSize, s.load.Window-(sent-int(s.answered.Load()))))
}

func (s *sender) put(p *packets, i, number int, now time.Duration) {
	due := now
	if s.load.Rate > 0 {
		due = time.Duration(float64(number) / s.load.Rate * 1e9)
	}
	query, id := s.queries[number%len(s.queries)], uint16(number) //nolint:gosec // G115: what ids repeat
	s.due[id].Store(max(1, due.Nanoseconds()))
	copy(p.octets[i][:], query)
	binary.BigEndian.PutUint16(p.octets[i][:], id)
	p.parts[i].SetLen(len(query))
}

// nap is how long the receiver sleeps when there is nothing. It does not wait in the socket, because then a server would
// pay for waking it with every answer, which a server that answers over a network does not.
const nap = 50 * time.Microsecond

// linger is for how long answers are awaited after the last query.
const linger = 300 * time.Millisecond

// receive takes answers until sending is over and nothing comes any more.
func (s *sender) receive() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, last := newPackets(), time.Now()
	for {
		n, err := p.call(unix.SYS_RECVMMSG, s.fd, burstSize, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if s.over.Load() && (time.Since(last) > linger || s.answered.Load() == s.sent.Load()) {
				return nil
			}
			rest := unix.NsecToTimespec(nap.Nanoseconds())
			_ = unix.Nanosleep(&rest, nil)
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNREFUSED):
			continue
		case err != nil:
			return fmt.Errorf("receiving answers of %s: %w", s.load.To, err)
		}
		last = time.Now()
		now := last.Sub(s.began).Nanoseconds()
		for i := range n {
			s.take(p.octets[i][:p.headers[i].length], now)
		}
	}
}

func (s *sender) take(answer []byte, now int64) {
	if len(answer) < 12 {
		s.errors++
		return
	}
	due := s.due[binary.BigEndian.Uint16(answer)].Swap(0)
	if due == 0 {
		return // twice
	}
	s.answered.Add(1)
	s.delays = append(s.delays, float64(now-due))
	switch answer[3] & 0xf {
	case 0:
	case 3:
		s.missing++
	default:
		s.errors++
	}
}
