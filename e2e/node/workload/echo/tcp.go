package echo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

const (
	maxConnections = 8192
	maxLine        = 64 << 10
	maxPadded      = 1 << 20 // of an answer that is one line
	idleTimeout    = 10 * time.Minute
)

// tcpFront serves lines.
type tcpFront struct {
	state    *state
	listener net.Listener

	mu       sync.Mutex
	closing  bool
	open     map[net.Conn]struct{}
	finished sync.WaitGroup
}

func openTCP(s *state, address string, _ *tls.Config) (front, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &tcpFront{state: s, listener: listener, open: map[net.Conn]struct{}{}}, nil
}

func (f *tcpFront) protocol() string { return answer.TCP }
func (f *tcpFront) addr() net.Addr   { return f.listener.Addr() }

func (f *tcpFront) serve() error {
	for {
		conn, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f.add(conn) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer f.remove(conn)
			f.converse(conn)
		}()
	}
}

// add tells whether the connection may stay.
func (f *tcpFront) add(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing || len(f.open) >= maxConnections {
		return false
	}
	f.open[conn] = struct{}{}
	f.finished.Add(1)
	return true
}

func (f *tcpFront) remove(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	delete(f.open, conn)
	f.mu.Unlock()
	f.finished.Done()
}

// await gives the client time to send the next line, unless the server is closing.
func (f *tcpFront) await(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closing {
		_ = conn.SetReadDeadline(time.Now().Add(idleTimeout)) // fails if it is closed, and then reading fails
	}
}

func (f *tcpFront) shutdown(ctx context.Context) {
	_ = f.listener.Close()
	f.each(func(conn net.Conn) { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // answers under way are finished
	done := make(chan struct{})
	go func() {
		f.finished.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		f.each(func(conn net.Conn) { _ = conn.Close() })
	}
}

func (f *tcpFront) each(do func(net.Conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
	for conn := range f.open {
		do(conn)
	}
}

// converse says who answers and then echoes lines.
func (f *tcpFront) converse(conn net.Conn) {
	a := f.answer(conn)
	if !f.proceed(conn, fault.Wish{}) || f.write(conn, append(a.JSON(), '\n')) != nil {
		return
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 1024), maxLine)
	for f.await(conn); lines.Scan(); f.await(conn) {
		reply, ok := f.reply(conn, lines.Bytes())
		if !ok || f.write(conn, reply) != nil {
			return
		}
	}
}

// reply returns what a line gets, and false if the connection is to be closed instead.
func (f *tcpFront) reply(conn net.Conn, line []byte) ([]byte, bool) {
	a := f.answer(conn)
	parameters, special := bytes.CutPrefix(line, []byte("?"))
	if !special {
		return append(line, '\n'), f.proceed(conn, fault.Wish{})
	}
	wish, err := parseLine(parameters)
	if err != nil {
		return append(refusal(err), '\n'), true
	}
	return text(a, wish, maxPadded), f.proceed(conn, wish)
}

func (f *tcpFront) answer(conn net.Conn) answer.Answer {
	return f.state.answer(answer.TCP, conn.RemoteAddr().String(), conn.LocalAddr().String())
}

func (f *tcpFront) write(conn net.Conn, data []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(idleTimeout)) // fails if it is closed, and then writing fails
	_, err := conn.Write(data)
	return err
}

// proceed delays and hangs, and tells whether the connection goes on.
func (f *tcpFront) proceed(conn net.Conn, wish fault.Wish) bool {
	plan := f.state.plan(answer.TCP, wish)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if plan.Hang { // nothing but the end of the connection matters any more
		f.await(conn)
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			cancel()
		}()
	}
	err := f.state.suffer(ctx, plan)
	if tcp, ok := conn.(*net.TCPConn); ok && errors.Is(err, errDropped) {
		_ = tcp.SetLinger(0) // the client gets a reset
	}
	return err == nil && plan.Status < 400
}

// parseLine reads parameters that are written as in a URL.
func parseLine(parameters []byte) (fault.Wish, error) {
	query, err := url.ParseQuery(string(bytes.TrimSpace(parameters)))
	if err != nil {
		return fault.Wish{}, err
	}
	return fault.ParseQuery(query)
}

// text is an answer as one line, filled with spaces up to the size that was wished for, but not beyond limit.
func text(a answer.Answer, wish fault.Wish, limit int) []byte {
	line := a.JSON()
	if wish.Plain {
		line = []byte(a.Plain())
	}
	if missing := int(min(wish.Size, int64(limit))) - len(line) - 1; missing > 0 {
		line = append(line, bytes.Repeat([]byte{' '}, missing)...)
	}
	return append(line, '\n')
}

// refusal is {"error": "…"}.
func refusal(err error) []byte {
	data, _ := json.Marshal(map[string]string{"error": err.Error()}) // strings always encode
	return data
}
