package soak_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The rates and sizes of what clients do.
const (
	streams    = 12 // clients that stay
	says       = 100 * time.Millisecond
	answerTime = 8 * time.Second
	bulkSize   = 3 << 20
	inFlight   = 4000
)

// clients are those of m1 and m2.
type clients struct {
	world   *world
	tls     *tls.Config
	flying  atomic.Int64
	skipped atomic.Int64
	running sync.WaitGroup
	payload []byte
}

func newClients(w *world, config *tls.Config) *clients {
	line := append(bytes.Repeat([]byte("0123456789abcde"), 1024), '\n')
	return &clients{world: w, tls: config, payload: bytes.Repeat(line, bulkSize/len(line))}
}

// begin has clients come until ctx ends, whether others were served or not; wait for running then.
func (c *clients) begin(ctx context.Context, random *rand.Rand) {
	c.running.Go(func() {
		for due := time.Now(); ctx.Err() == nil; due = due.Add(*pace) {
			rest(ctx, time.Until(due))
			c.come(random)
		}
	})
	for i := range streams {
		m := c.world.members[i%2]
		c.running.Go(func() { c.stay(ctx, m) })
	}
}

// come has one client come.
func (c *clients) come(random *rand.Rand) {
	if c.flying.Load() >= inFlight {
		c.skipped.Add(1)
		return
	}
	m, what, number := c.world.members[0], call, random.IntN(1000)
	if number%4 == 0 {
		m = c.world.members[1]
	}
	port := uint16(webPort)
	switch {
	case number < 5:
		what = bulk
	case number < 50:
		what = abort
	case number < 120:
		what, port = query, dnsPort
	case number < 180:
		what, m = secure, c.world.members[1]
		port = passPort
	case number < 500:
		port = apiPort
	}
	leave := random.IntN(3)
	c.flying.Add(1)
	c.running.Go(func() {
		defer c.flying.Add(-1)
		began := time.Now()
		err := c.act(what, m, port, leave)
		c.world.books.done(what, fmt.Sprint(m.id, ":", port), began, err)
	})
}

func (c *clients) act(what kind, m *member, port uint16, leave int) error {
	switch what {
	case bulk:
		return c.bulk(m, port)
	case abort:
		return c.abort(m, port, leave)
	case query:
		return c.query(m, port)
	case secure:
		return c.secure(m, port)
	default:
		return c.call(m, port)
	}
}

// dial connects to a port of a gateway.
func (c *clients) dial(m *member, port uint16) (*net.TCPConn, error) {
	to, _ := m.sockets.where(port)
	if to == nil {
		return nil, fmt.Errorf("port %d is not served", port)
	}
	d := net.Dialer{Timeout: answerTime}
	conn, err := d.DialContext(context.Background(), "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(answerTime))
}

// ask sends a request and reads the answer.
func (c *clients) ask(conn io.ReadWriter) error {
	said := fmt.Sprintf("%d %s\n", c.world.books.request(), strings.Repeat("x", 200))
	if _, err := io.WriteString(conn, said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(conn, heard); err != nil {
		return err
	}
	if string(heard) != said {
		return fmt.Errorf("said %.30q, heard %.30q", said, heard)
	}
	return nil
}

// call makes a request on a connection of its own, and closes in order.
func (c *clients) call(m *member, port uint16) error {
	conn, err := c.dial(m, port)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := c.ask(conn); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	rest, err := io.ReadAll(conn)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("heard %.30q after the answer", rest)
	}
	return err
}

func (c *clients) secure(m *member, port uint16) error {
	conn, err := c.dial(m, port)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return c.ask(tls.Client(conn, c.tls))
}

// abort leaves: at once, after it has said something, or after it has heard something.
func (c *clients) abort(m *member, port uint16, when int) error {
	conn, err := c.dial(m, port)
	if err != nil {
		return err
	}
	defer func() { _ = reset(conn) }()
	switch when {
	case 1:
		_, err = fmt.Fprintf(conn, "%d bye\n", c.world.books.request())
	case 2:
		err = c.ask(conn)
	}
	return err
}

// bulk sends much, while it comes back.
func (c *clients) bulk(m *member, port uint16) error {
	conn, err := c.dial(m, port)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * answerTime)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(c.payload)
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, conn)
	if err != nil {
		_ = reset(conn)
	}
	err = errors.Join(err, <-sent)
	if err == nil && (n != int64(len(c.payload)) || sum.Sum32() != crc32.ChecksumIEEE(c.payload)) {
		err = fmt.Errorf("%d octets of %d came back, or others", n, len(c.payload))
	}
	return err
}

// query asks by UDP, three times.
func (c *clients) query(m *member, port uint16) error {
	_, to := m.sockets.where(port)
	if to == nil {
		return fmt.Errorf("port %d is not served", port)
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), "udp", to.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	began := time.Now()
	said, heard := fmt.Appendf(nil, "%d", c.world.books.request()), make([]byte, 64)
	for i := range 3 {
		if i > 0 {
			c.world.books.done(repeated, m.id, began, err)
		}
		if err := conn.SetDeadline(time.Now().Add(700 * time.Millisecond)); err != nil {
			return err
		}
		if _, err = conn.Write(said); err != nil {
			continue
		}
		var n int
		if n, err = conn.Read(heard); err == nil && !bytes.Equal(heard[:n], said) {
			return fmt.Errorf("asked %q, heard %q", said, heard[:n])
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// stay keeps a connection and says something now and then; when it breaks, another one is made.
func (c *clients) stay(ctx context.Context, m *member) {
	for ctx.Err() == nil {
		began := time.Now()
		err := c.stream(ctx, m)
		c.world.books.done(stream, m.id, began, err)
		if err != nil {
			rest(ctx, says)
		}
	}
}

// lasts is for how long a client stays at most.
const lasts = 15 * time.Second

func (c *clients) stream(ctx context.Context, m *member) error {
	conn, err := c.dial(m, webPort)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for end := time.Now().Add(lasts); time.Now().Before(end) && ctx.Err() == nil; {
		if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		if err := c.ask(conn); err != nil {
			return err
		}
		rest(ctx, says)
	}
	return nil
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// callAll calls services that have just come, each until it is served.
func (c *clients) callAll(m *member, n int) error {
	for i := range n {
		port := churnPort + uint16(i)
		for deadline := time.Now().Add(patience); ; {
			if to, _ := m.sockets.where(port); to != nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("port %d is not served", port)
			}
			rest(context.Background(), time.Millisecond)
		}
		began := time.Now()
		c.world.books.done(command, fmt.Sprint(m.id, ":", port), began, c.call(m, port))
	}
	return nil
}
