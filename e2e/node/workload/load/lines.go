package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// lineProber speaks to the test server over TCP or UDP.
type lineProber struct {
	network string
	address string
	query   string
	dialer  *net.Dialer
	keep    int // idle connections, at most
	serial  atomic.Uint64

	mu   sync.Mutex
	idle []*lineConn // the one used last is the last
}

// lineConn is a connection that is used by one request at a time.
type lineConn struct {
	net.Conn

	reader *bufio.Reader
	who    string // TCP: as the server's first line said
}

func newLines(c Client, u *url.URL) *lineProber {
	p := &lineProber{network: u.Scheme, address: u.Host, query: u.RawQuery, dialer: c.dialer(), keep: c.Connections}
	if c.NewConnections {
		p.keep = 0
	}
	return p
}

func (p *lineProber) probe(ctx context.Context) (string, error) {
	conn := p.take()
	if conn == nil {
		raw, err := p.dialer.DialContext(ctx, p.network, p.address)
		if err != nil {
			return "", err
		}
		conn = &lineConn{Conn: raw, reader: bufio.NewReaderSize(raw, 1<<16)}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	who, err := p.exchange(conn)
	if !stop() && err != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil || ctx.Err() != nil || !p.put(conn) {
		_ = conn.Close()
	}
	return who, err
}

// take returns nil if there is no idle connection.
func (p *lineProber) take() *lineConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	conn := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return conn
}

// put tells whether the connection is kept.
func (p *lineProber) put(conn *lineConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= p.keep {
		return false
	}
	p.idle = append(p.idle, conn)
	return true
}

func (p *lineProber) exchange(conn *lineConn) (string, error) {
	id := strconv.FormatUint(p.serial.Add(1), 10)
	if p.network == answer.UDP {
		return p.exchangeDatagrams(conn, id)
	}
	return p.exchangeLines(conn, id)
}

func (p *lineProber) exchangeLines(conn *lineConn, id string) (string, error) {
	if conn.who == "" {
		line, err := conn.reader.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		if conn.who = answer.Who(line); conn.who == "" {
			return "", fmt.Errorf("%w: the first line is not the test server's: %.80q", errBadAnswer, line)
		}
	}
	line := id
	if p.query != "" {
		line = "?" + p.query
	}
	if _, err := conn.Write([]byte(line + "\n")); err != nil {
		return conn.who, err
	}
	reply, err := conn.reader.ReadBytes('\n')
	switch {
	case err != nil:
		return conn.who, err
	case p.query != "" && answer.Who(reply) == "":
		return conn.who, fmt.Errorf("%w to %q: %.200q", errBadAnswer, line, reply)
	case p.query == "" && string(reply) != id+"\n":
		return conn.who, fmt.Errorf("%w to %q: %.80q", errBadAnswer, line, reply)
	}
	return conn.who, nil
}

// exchangeDatagrams waits for the answer to its own datagram; others belong to requests that were given up.
func (p *lineProber) exchangeDatagrams(conn *lineConn, id string) (string, error) {
	datagram := id
	if p.query != "" {
		datagram = "?" + p.query + "\n" + id
	}
	if _, err := conn.Write([]byte(datagram)); err != nil {
		return "", err
	}
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return "", err
		}
		var reply struct{ Echo, Error string }
		if err := json.Unmarshal(bytes.TrimSpace(buffer[:n]), &reply); err != nil || reply.Error != "" {
			return "", fmt.Errorf("%w: %.200q", errBadAnswer, buffer[:n])
		}
		if reply.Echo == id {
			return answer.Who(buffer[:n]), nil
		}
	}
}

func (p *lineProber) close() {
	for conn := p.take(); conn != nil; conn = p.take() {
		_ = conn.Close()
	}
}
