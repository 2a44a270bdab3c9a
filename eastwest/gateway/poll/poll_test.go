package poll_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
)

// run starts a loop, and stops it when the test ends.
func run(t *testing.T) *poll.Loop {
	t.Helper()
	l, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// in calls f in the loop and waits for it.
func in(t *testing.T, l *poll.Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has ended")
	}
	<-done
}

// pair returns two connected sockets.
func pair(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds
}

type handlerFunc func(fd int, e poll.Events)

func (f handlerFunc) Ready(fd int, e poll.Events) { f(fd, e) }

type taskFunc func()

func (f taskFunc) Resume() { f() }
func (f taskFunc) Expire() { f() }

func TestEvents(t *testing.T) {
	l, fds := run(t), pair(t)
	defer func() { _ = unix.Close(fds[1]) }()
	seen := make(chan poll.Events, 16)
	in(t, l, func() {
		if err := l.Add(fds[0], poll.Readable|poll.Writable|poll.PeerDone, handlerFunc(func(_ int, e poll.Events) { seen <- e })); err != nil {
			t.Error(err)
		}
	})
	if e := <-seen; !e.Has(poll.Writable) || e.Has(poll.Readable) {
		t.Errorf("a new socket has events %x, want writable", e)
	}
	if _, err := unix.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e := <-seen; !e.Has(poll.Readable) {
		t.Errorf("a socket with octets has events %x, want readable", e)
	}
	if err := unix.Shutdown(fds[1], unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if e := <-seen; !e.Has(poll.PeerDone) {
		t.Errorf("a socket whose peer is done has events %x", e)
	}
	in(t, l, func() { l.Close(fds[0]) })
}

// TestClosedSocketsAreSilent holds that an event of a socket that was closed in the same round reaches nobody, not even
// who has its number now.
func TestClosedSocketsAreSilent(t *testing.T) {
	l := run(t)
	for range 100 {
		a, b := pair(t), pair(t)
		fresh, stale := make(chan poll.Events, 4), 0
		var again [2]int
		closer := handlerFunc(func(fd int, _ poll.Events) {
			other := b[0]
			if fd == b[0] {
				other = a[0]
			}
			l.Close(other)
			again = pair(t) // takes the number
			if again[0] != other {
				return
			}
			if err := l.Add(again[0], poll.Readable, handlerFunc(func(_ int, e poll.Events) { fresh <- e })); err != nil {
				t.Error(err)
			}
			l.Remove(fd)
			stale++
		})
		in(t, l, func() {
			for _, fd := range []int{a[0], b[0]} {
				if err := l.Add(fd, poll.Readable, closer); err != nil {
					t.Error(err)
				}
			}
			_, _ = unix.Write(a[1], []byte("x"))
			_, _ = unix.Write(b[1], []byte("x"))
		})
		in(t, l, func() {})
		select {
		case e := <-fresh:
			t.Fatalf("a new socket got events %x of an old one", e)
		default:
		}
		if stale > 1 {
			t.Fatalf("a closed socket was handled")
		}
		in(t, l, func() {
			for _, fd := range slices.Concat(a[:], b[:], again[:]) {
				l.Close(fd)
			}
		})
	}
}

func TestTasksTakeTurnsWithEvents(t *testing.T) {
	l, fds := run(t), pair(t)
	defer func() { _ = unix.Close(fds[1]) }()
	seen := make(chan struct{})
	var task taskFunc
	stop := false
	task = func() {
		if !stop {
			l.Later(task)
		}
	}
	in(t, l, func() {
		l.Later(task)
		if err := l.Add(fds[0], poll.Readable, handlerFunc(func(int, poll.Events) { close(seen) })); err != nil {
			t.Error(err)
		}
	})
	if _, err := unix.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	<-seen // although there is always something to go on with
	in(t, l, func() { stop = true; l.Close(fds[0]) })
}

func TestLimits(t *testing.T) {
	l := run(t)
	order := make(chan string, 8)
	var first, second, renewed, stopped poll.Timer
	expires := func(name string) taskFunc { return func() { order <- name } }
	start := time.Now()
	in(t, l, func() {
		short, long := l.Limit(20*time.Millisecond), l.Limit(40*time.Millisecond)
		short.Start(&renewed, expires("wrong"))
		short.Start(&stopped, expires("stopped"))
		long.Start(&second, expires("second"))
		short.Start(&first, expires("first"))
		long.Start(&renewed, expires("renewed"))
		stopped.Stop()
		stopped.Stop()
	})
	var got []string
	for range 3 {
		got = append(got, <-order)
	}
	if want := []string{"first", "second", "renewed"}; !slices.Equal(got, want) {
		t.Errorf("times end in the order %v, want %v", got, want)
	}
	if took := time.Since(start); took < 40*time.Millisecond {
		t.Errorf("40 ms were over after %s", took)
	}
	select {
	case name := <-order:
		t.Errorf("%s ended too", name)
	default:
	}
}

func TestStop(t *testing.T) {
	l, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	l.Post(func() { ran = true })
	l.Stop()
	if err := l.Run(); err != nil || !ran {
		t.Errorf("Run = %v; what was posted before Stop ran: %v", err, ran)
	}
	if l.Post(func() {}) {
		t.Error("something was posted to a loop that has ended")
	}
	l.Stop()
}

func TestAccept(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		listener, err := net.Listen("tcp", address) //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		to := listener.Addr().(*net.TCPAddr).AddrPort()
		if to.Addr().IsUnspecified() { // both families: clients of IPv4 are told as such
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
		}
		conn, err := net.Dial("tcp", to.String()) //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		raw, err := listener.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var fd int
		var from netip.AddrPort
		accept := func(l uintptr) { fd, from, err = poll.Accept(int(l)) } // loopback: it is there once Dial returns
		if controlErr := raw.Control(accept); errors.Join(controlErr, err) != nil {
			t.Fatal(errors.Join(controlErr, err))
		}
		if want := conn.LocalAddr().(*net.TCPAddr).AddrPort(); from != want {
			t.Errorf("listening on %s: the connection comes from %s, want %s", address, from, want)
		}
		if _, err := poll.Read(fd, make([]byte, 1)); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("reading from a connection without octets: %v, want EAGAIN", err)
		}
		if n, err := poll.Write(fd, []byte("x")); n != 1 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		_ = unix.Close(fd)
	}
}
