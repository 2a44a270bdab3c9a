package relay_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// patience is after which a test that waits has failed.
const patience = 20 * time.Second

// relays is a loop with what pairs need.
type relays struct {
	t     *testing.T
	loop  *poll.Loop
	env   *relay.Env
	pipes *relay.Pipes
}

func start(t *testing.T, pipes *relay.Pipes, idle time.Duration) *relays {
	t.Helper()
	loop, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	r := &relays{t: t, loop: loop, env: relay.NewEnv(loop, pipes, loop.Limit(idle)), pipes: pipes}
	done := make(chan error, 1)
	go func() { done <- loop.Run() }()
	t.Cleanup(func() {
		loop.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		pipes.Close()
		if open, _ := pipes.Open(); open != 0 {
			t.Errorf("%d pipes are still in use", open)
		}
	})
	return r
}

// link is a pair between a client and a server.
type link struct {
	client, server *net.TCPConn
	pair           *relay.Pair
	bytes          relay.Bytes
	outcome        chan relay.Outcome
}

// dispatch hands the events of two sockets to a pair.
type dispatch struct {
	pair *relay.Pair
	side relay.Side
}

func (d dispatch) Ready(_ int, e poll.Events) { d.pair.Ready(d.side, e) }

// link connects a client to a server.
func (r *relays) link(up []byte) *link {
	r.t.Helper()
	l := &link{pair: &relay.Pair{}, outcome: make(chan relay.Outcome, 1)}
	var fds [2]int
	l.client, fds[relay.Client] = connected(r.t)
	l.server, fds[relay.Server] = connected(r.t)
	ok := r.loop.Post(func() {
		const events = poll.Readable | poll.Writable | poll.PeerDone
		for side, fd := range fds {
			if err := r.loop.Add(fd, events, dispatch{l.pair, relay.Side(side)}); err != nil {
				r.t.Error(err)
			}
		}
		l.pair.Start(r.env, fds, up, &l.bytes, func(o relay.Outcome) { l.outcome <- o })
	})
	if !ok {
		r.t.Fatal("the loop has ended")
	}
	return l
}

// connected returns one end of a connection as Go's, and the other as a descriptor.
func connected(t *testing.T) (*net.TCPConn, int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	near, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	raw, err := far.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		t.Fatal(err)
	}
	_ = far.Close()
	conn := near.(*net.TCPConn)
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, fd
}

func (l *link) ends(t *testing.T, want relay.Outcome) {
	t.Helper()
	select {
	case got := <-l.outcome:
		if got != want {
			t.Errorf("the pair ended as %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Errorf("the pair did not end, want %s", want)
	}
}

// held asks the loop what a pair holds.
func (r *relays) held(l *link) (octets, pipes int) {
	done := make(chan struct{})
	r.loop.Post(func() {
		octets, pipes = l.pair.Held()
		close(done)
	})
	<-done
	return octets, pipes
}

// content are octets that differ from each other for long.
func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = random.Read(b)
	return b
}

// send writes b in chunks of random size, and sometimes waits until it is told.
func send(to io.Writer, b []byte, random *rand.Rand) error {
	for len(b) > 0 {
		n := min(len(b), 1+random.IntN(1+random.IntN(1<<uint(random.IntN(19)))))
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// receive reads in chunks of random size until the end, or until stop octets are there.
func receive(from io.Reader, stop int, random *rand.Rand) ([]byte, error) {
	var all []byte
	buffer := make([]byte, 256<<10)
	for len(all) < stop {
		n, err := from.Read(buffer[:1+random.IntN(len(buffer))])
		all = append(all, buffer[:n]...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// TestEveryOctetOnce holds that whatever two sides send arrives, whole and in order, and that each direction ends by
// itself.
func TestEveryOctetOnce(t *testing.T) {
	for name, pipes := range map[string]*relay.Pipes{
		"Spliced": relay.NewPipes(8, 0), "SmallPipes": relay.NewPipes(8, 4096), "FewPipes": relay.NewPipes(1, 0), "Copied": relay.NewPipes(-1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, pipes, time.Minute)
			var all sync.WaitGroup
			for seed := range uint64(24) {
				all.Go(func() { r.exchange(seed) })
			}
			all.Wait()
		})
	}
}

func (r *relays) exchange(seed uint64) {
	t := r.t
	random := rand.New(rand.NewPCG(seed, 1))
	sizes := [2]int{random.IntN(1 << uint(random.IntN(23))), random.IntN(1 << uint(random.IntN(23)))}
	first := content(random.IntN(2000), seed+100)
	l := r.link(first)
	upwards, downwards := content(sizes[0], seed), content(sizes[1], seed+50)
	var got [2][]byte
	var both sync.WaitGroup
	for i, side := range []struct {
		conn *net.TCPConn
		send []byte
	}{{l.client, upwards}, {l.server, downwards}} {
		sending, receiving := rand.New(rand.NewPCG(seed, uint64(2+i))), rand.New(rand.NewPCG(seed, uint64(4+i)))
		both.Go(func() {
			if err := errors.Join(send(side.conn, side.send, sending), side.conn.CloseWrite()); err != nil {
				t.Errorf("seed %d: sending: %v", seed, err)
			}
		})
		both.Go(func() {
			var err error
			if got[i], err = receive(side.conn, 1<<30, receiving); !errors.Is(err, io.EOF) {
				t.Errorf("seed %d: receiving: %v", seed, err)
			}
		})
	}
	both.Wait()
	if !bytes.Equal(got[0], downwards) {
		t.Errorf("seed %d: the client got %d octets, want the server's %d", seed, len(got[0]), len(downwards))
	}
	if want := slices.Concat(first, upwards); !bytes.Equal(got[1], want) {
		t.Errorf("seed %d: the server got %d octets, want the client's %d", seed, len(got[1]), len(want))
	}
	l.ends(t, relay.Done)
	if up, down := l.bytes.Up.Load(), l.bytes.Down.Load(); up != uint64(len(first)+sizes[0]) || down != uint64(sizes[1]) {
		t.Errorf("seed %d: %d octets up and %d down were counted, want %d and %d", seed, up, down, len(first)+sizes[0], sizes[1])
	}
}

// TestResets holds that a reset reaches the other side, and that what arrived until then is what was sent.
func TestResets(t *testing.T) {
	r := start(t, relay.NewPipes(8, 0), time.Minute)
	var all sync.WaitGroup
	for seed := range uint64(40) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, 9))
			l := r.link(nil)
			resets, sees, outcome := l.client, l.server, relay.ClientReset
			if seed%2 == 1 {
				resets, sees, outcome = l.server, l.client, relay.ServerReset
			}
			sent := content(1+random.IntN(1<<uint(1+random.IntN(22))), seed)
			if seed%3 == 0 { // a direction that has ended already changes nothing
				if err := sees.CloseWrite(); err != nil {
					t.Error(err)
				}
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = send(resets, sent, random)
				_ = resets.SetLinger(0)
				_ = resets.Close()
			}()
			got, err := receive(sees, 1<<30, rand.New(rand.NewPCG(seed, 10)))
			<-done
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("seed %d: the other side sees %v, want a reset", seed, err)
			}
			if !bytes.HasPrefix(sent, got) {
				t.Errorf("seed %d: %d octets arrived that are not the first of what was sent", seed, len(got))
			}
			l.ends(t, outcome)
		})
	}
	all.Wait()
}

// TestResetWhileNobodyReads holds that a side that is gone does not wait for the other to take what it left.
func TestResetWhileNobodyReads(t *testing.T) {
	r := start(t, relay.NewPipes(8, 0), time.Minute)
	l := r.link(nil)
	fill(t, l.client)
	_ = l.client.SetLinger(0)
	_ = l.client.Close()
	l.ends(t, relay.ClientReset)
}

// fill writes until nothing is taken any more.
func fill(t *testing.T, to *net.TCPConn) {
	t.Helper()
	b := make([]byte, 256<<10)
	for {
		if err := to.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(b); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			return
		}
	}
}

// TestLastWords holds that an answer gets through although its sender resets, because it did not read all.
func TestLastWords(t *testing.T) {
	r := start(t, relay.NewPipes(8, 0), time.Minute)
	for range 50 {
		l := r.link(nil)
		if _, err := l.client.Write(content(100<<10, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(l.server, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.server.Write([]byte("413 too large")); err != nil {
			t.Fatal(err)
		}
		_ = l.server.Close() // with octets unread: a reset
		got, err := receive(l.client, 1<<20, rand.New(rand.NewPCG(1, 1)))
		if string(got) != "413 too large" || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the client got %q, %v", got, err)
		}
		l.ends(t, relay.ServerReset)
	}
}

// TestRest holds that a connection that rests, after bulk too, has neither memory nor pipes.
func TestRest(t *testing.T) {
	r := start(t, relay.NewPipes(4, 0), time.Minute)
	var links []*link
	for range 10 {
		l := r.link([]byte("hello"))
		if _, err := io.ReadFull(l.server, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = l.client.Write(make([]byte, 8<<20)) }()
		if _, err := io.ReadFull(l.server, make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	for _, l := range links {
		if octets, pipes := r.held(l); octets != 0 || pipes != 0 {
			t.Errorf("a pair at rest holds %d octets and %d pipes", octets, pipes)
		}
	}
	if open, free := r.pipes.Open(); open == 0 || open != free || open > 4 {
		t.Errorf("%d pipes are open and %d free; bulk needs some, and at rest all are free", open, free)
	}
}

// TestFewAfterMany holds that what is small arrives at once, more or less, also where much came before: nothing waits for
// more to follow.
func TestFewAfterMany(t *testing.T) {
	r := start(t, relay.NewPipes(4, 0), time.Minute)
	l := r.link(nil)
	for range 3 {
		go func() { _, _ = l.server.Write(make([]byte, 4<<20)) }()
		if _, err := io.ReadFull(l.client, make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
		for i := range 100 { // question and answer, of sizes that nothing divides
			if _, err := l.client.Write(content(i+1, 1)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(l.server, make([]byte, i+1)); err != nil {
				t.Fatalf("question %d is stuck: %v", i, err)
			}
			if _, err := l.server.Write(content(1000*i+1, 2)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(l.client, make([]byte, 1000*i+1)); err != nil {
				t.Fatalf("answer %d is stuck: %v", i, err)
			}
		}
	}
}

// TestSlowReadersAreBounded holds that those who take nothing hold no more than a buffer or a pipe, and that the others
// go on when all pipes are taken.
func TestSlowReadersAreBounded(t *testing.T) {
	r := start(t, relay.NewPipes(2, 0), time.Minute)
	var slow []*link
	var filled sync.WaitGroup
	for range 5 {
		l := r.link(nil)
		slow = append(slow, l)
		filled.Go(func() { fill(t, l.client) })
	}
	filled.Wait()
	for _, l := range slow {
		if octets, pipes := r.held(l); octets > 16<<10 || pipes > 1 || octets > 0 && pipes > 0 {
			t.Errorf("a pair whose server takes nothing holds %d octets and %d pipes", octets, pipes)
		}
	}
	if open, _ := r.pipes.Open(); open > 2 {
		t.Errorf("%d pipes are open, want 2 at most", open)
	}
	r.exchange(3)
}

func TestIdle(t *testing.T) {
	r := start(t, relay.NewPipes(4, 0), 300*time.Millisecond)
	l := r.link(nil)
	began := time.Now()
	for time.Since(began) < 600*time.Millisecond { // what moves is not idle
		if _, err := l.client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(l.server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	l.ends(t, relay.Idle)
	if _, err := l.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after it was idle the client sees %v, want a reset", err)
	}
}

func TestAbort(t *testing.T) {
	r := start(t, relay.NewPipes(4, 0), time.Minute)
	l := r.link(nil)
	r.loop.Post(l.pair.Abort)
	l.ends(t, relay.Aborted)
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a side sees %v, want a reset", err)
		}
	}
	r.loop.Post(l.pair.Abort) // once is enough
}
