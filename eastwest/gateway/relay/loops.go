package relay

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/eastwest/gateway/poll"
)

// Loops relay pairs of TCP connections that others have opened, all in a few goroutines.
type Loops struct {
	pipes *Pipes
	loops []*member
	next  atomic.Uint32
	ends  sync.WaitGroup
}

// member is one loop and its pairs.
type member struct {
	loop  *poll.Loop
	env   *Env
	pairs map[*joined]struct{}
}

// joined is a pair of sockets that a loop owns.
type joined struct {
	member *member
	client int
	pair   Pair
	ended  func(Outcome)
}

// NewLoops starts n loops; 0 means GOMAXPROCS. A pair in which nothing moves for as long as idle is cut. For pipes, see
// NewPipes. Close ends the loops.
func NewLoops(n int, idle time.Duration, pipes *Pipes) (*Loops, error) {
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	l := &Loops{pipes: pipes}
	for range n {
		loop, err := poll.New()
		if err != nil {
			l.Close()
			return nil, err
		}
		m := &member{loop: loop, env: NewEnv(loop, pipes, loop.Limit(idle)), pairs: map[*joined]struct{}{}}
		l.loops = append(l.loops, m)
		l.ends.Go(func() { _ = loop.Run() }) // a loop that cannot wait takes no pairs any more: Join says so
	}
	return l, nil
}

// wanted are the events of every socket.
const wanted = poll.Readable | poll.Writable | poll.PeerDone

// ErrClosed says that a loop has ended.
var ErrClosed = errors.New("the loop has ended")

// Join relays between two connections, which it takes over: the caller's become closed, unless it returns an error, and
// then nothing has happened to them. What is in up was read from the client, and is delivered first. It counts in bytes,
// which may be nil. ended is called once, in the loop's goroutine.
func (l *Loops) Join(client, server *net.TCPConn, up []byte, bytes *Bytes, ended func(Outcome)) error {
	c, err := duplicate(client)
	if err != nil {
		return err
	}
	s, err := duplicate(server)
	if err != nil {
		_ = unix.Close(c)
		return err
	}
	m := l.loops[int(l.next.Add(1))%len(l.loops)]
	j := &joined{member: m, client: c, ended: ended}
	// The loop must not have the sockets while Go's scheduler has them too: so it begins after Close.
	begin := make(chan struct{})
	posted := m.loop.Post(func() {
		<-begin
		j.start(s, up, bytes)
	})
	if !posted {
		_, _ = unix.Close(c), unix.Close(s)
		return ErrClosed
	}
	_, _ = client.Close(), server.Close()
	close(begin)
	return nil
}

// duplicate returns another descriptor of a connection's socket.
func duplicate(conn *net.TCPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("taking a connection over: %w", err)
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(from uintptr) { fd, failed = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return -1, fmt.Errorf("taking a connection over: %w", err)
	}
	return fd, nil
}

func (j *joined) start(server int, up []byte, bytes *Bytes) {
	m := j.member
	m.pairs[j] = struct{}{}
	err := errors.Join(m.loop.Add(j.client, wanted, j), m.loop.Add(server, wanted, j))
	j.pair.Start(m.env, [2]int{j.client, server}, up, bytes, j.over)
	if err != nil {
		j.pair.Abort()
	}
}

// Ready takes the events of both sockets.
func (j *joined) Ready(fd int, e poll.Events) {
	if fd == j.client {
		j.pair.Ready(Client, e)
	} else {
		j.pair.Ready(Server, e)
	}
}

func (j *joined) over(o Outcome) {
	delete(j.member.pairs, j)
	j.ended(o)
}

// Abort resets all connections.
func (l *Loops) Abort() {
	for _, m := range l.loops {
		m.loop.Post(m.abort)
	}
}

func (m *member) abort() {
	for j := range m.pairs {
		j.pair.Abort()
	}
}

// Close resets all connections and ends the loops. The pipes stay open.
func (l *Loops) Close() {
	l.Abort()
	for _, m := range l.loops {
		m.loop.Stop()
	}
	l.ends.Wait()
}
