package listen

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// listener accepts the connections of one address.
type listener struct {
	*net.TCPListener

	addr netip.AddrPort
	over Transport
}

// patience is how long accept rests after an error that may pass, such as too many open files.
const patience = 50 * time.Millisecond

// accept serves connections until the listener is closed.
func (s *Server) accept(l *listener) error {
	if l.over == HTTPS {
		return s.acceptHTTPS(l)
	}
	failing := false
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			failing = false
			s.serve(conn, l.over)
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case !failing:
			failing = true
			s.log.Error(err, "no connections are accepted for now; if files are what is missing, raise the limit (ulimit -n)", "address", l.addr.String())
		}
		select {
		case <-time.After(patience):
		case <-s.ctx.Done():
			return nil
		}
	}
}

// stream is a connection of TCP or TLS, and the queries in it. They are answered one after the other, in order; what
// follows them waits in the kernel.
type stream struct {
	connection

	server *Server
	conn   net.Conn // TLS's, if it is one
	from   Source
	reader *bufio.Reader
	memory *memory // while busy
	out    []byte  // responses that were not written yet, in memory
}

// readerSize is what a connection holds for as long as it lives: some queries, which mostly have less than 100 octets.
const readerSize = 1024

// flushSize is how much is collected for one write while further queries are at hand.
const flushSize = 16 << 10

// memory is what a busy connection needs.
type memory struct {
	query []byte // for queries that are larger than the reader; nil until there is one
	out   []byte
}

var memories = sync.Pool{New: func() any { return &memory{out: make([]byte, 0, 8<<10)} }}

// keepSize is how large memory may be to be used again.
const keepSize = 128 << 10

// serve answers a connection in a goroutine, if the limits admit it.
func (s *Server) serve(conn *net.TCPConn, over Transport) {
	st := &stream{server: s, conn: conn, from: Source{Peer: plain(conn.RemoteAddr()), Local: plain(conn.LocalAddr()), Transport: over}}
	st.connection = connection{peer: who(st.from.Peer.Addr()), close: func() { _ = conn.Close() }, count: &s.streams[over]}
	if !s.connections.admit(&st.connection) {
		_ = conn.Close()
		return
	}
	go st.run()
}

// run answers queries until the peer, the server or a limit ends the connection.
func (st *stream) run() {
	defer st.server.connections.leave(&st.connection)
	defer func() { _ = st.conn.Close() }()
	defer func() {
		if found := recover(); found != nil {
			st.server.panicked(found)
		}
	}()
	if st.from.Transport == TLS {
		if err := st.handshake(); err != nil {
			st.ended(err)
			return
		}
	}
	st.reader = bufio.NewReaderSize(st.conn, readerSize)
	for st.awaits() {
		if err := st.busy(); err != nil {
			st.ended(err)
			return
		}
	}
}

func (st *stream) handshake() error {
	conn := tls.Server(st.conn, st.server.dot)
	if err := conn.SetDeadline(time.Now().Add(st.server.options.ReadTimeout)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	st.conn = conn
	return nil
}

// ended counts why a connection that was not idle ended, if that was the peer's slowness.
func (st *stream) ended(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		st.count.timedOut.Add(1)
	}
}

// awaits waits until a query begins. It returns false when none does.
func (st *stream) awaits() bool {
	if !st.server.connections.rest(&st.connection) {
		return false
	}
	if err := st.conn.SetReadDeadline(time.Now().Add(st.server.options.IdleTimeout)); err != nil {
		return false
	}
	if _, err := st.reader.Peek(1); err != nil {
		return false
	}
	return st.server.connections.work(&st.connection)
}

// busy answers the queries at hand.
func (st *stream) busy() error {
	m, ok := memories.Get().(*memory)
	if !ok {
		return errors.New("the pool holds something else")
	}
	st.memory, st.out = m, m.out[:0]
	defer st.idle()
	for st.reader.Buffered() > 0 {
		if err := st.one(); err != nil {
			_ = st.flush() // those before it were answered
			return err
		}
	}
	return st.flush()
}

// one answers one query.
func (st *stream) one() error {
	query, held, err := st.read()
	if err != nil {
		return err
	}
	if err := st.answer(query); err != nil {
		return err
	}
	if _, err := st.reader.Discard(held); err != nil {
		return err
	}
	if len(st.out) >= flushSize {
		return st.flush()
	}
	return nil
}

// idle gives memory back.
func (st *stream) idle() {
	if cap(st.out) <= keepSize {
		st.memory.out = st.out[:0]
	}
	memories.Put(st.memory)
	st.memory, st.out = nil, nil
}

// read returns the next query, and how much of it is still in the reader, to be discarded when it was answered.
func (st *stream) read() (query []byte, held int, err error) {
	head, err := st.part(2)
	if err != nil {
		return nil, 0, err
	}
	size := int(binary.BigEndian.Uint16(head))
	if size == 0 {
		return nil, 0, errors.New("a message of no octets")
	}
	if 2+size <= st.reader.Size() {
		whole, err := st.part(2 + size)
		if err != nil {
			return nil, 0, err
		}
		return whole[2:], 2 + size, nil
	}
	if err := st.hurry(); err != nil {
		return nil, 0, err
	}
	if _, err := st.reader.Discard(2); err != nil {
		return nil, 0, err
	}
	if st.memory.query == nil {
		st.memory.query = make([]byte, maxMessage)
	}
	query = st.memory.query[:size]
	_, err = io.ReadFull(st.reader, query)
	return query, 0, err
}

// part returns the first n octets that were not discarded. When they have not arrived yet, what was answered is sent
// before waiting for them.
func (st *stream) part(n int) ([]byte, error) {
	if st.reader.Buffered() < n {
		if err := st.hurry(); err != nil {
			return nil, err
		}
	}
	return st.reader.Peek(n)
}

// hurry sends what was answered and bounds the wait for the rest of a query.
func (st *stream) hurry() error {
	if err := st.flush(); err != nil {
		return err
	}
	return st.conn.SetReadDeadline(time.Now().Add(st.server.options.ReadTimeout))
}

// flush sends what was answered.
func (st *stream) flush() error {
	if len(st.out) == 0 {
		return nil
	}
	if err := st.conn.SetWriteDeadline(time.Now().Add(st.server.options.WriteTimeout)); err != nil {
		return err
	}
	_, err := st.conn.Write(st.out)
	st.out = st.out[:0]
	return err
}

// answer appends the response to what is to be sent.
func (st *stream) answer(query []byte) error {
	st.count.queries.Add(1)
	if streamer := st.server.streamer; streamer != nil {
		handled, err := streamer.Stream(query, st.from, st.send)
		if err != nil || handled {
			return err
		}
	}
	response := st.server.respond(st.room(), query, st.from)
	if response == nil && st.server.waiter != nil {
		if err := st.flush(); err != nil {
			return err
		}
		response = st.server.wait(st.room(), query, st.from)
	}
	return st.put(response)
}

// room returns where the next response begins, after two octets for its length.
func (st *stream) room() []byte {
	begin := len(st.out) + 2
	if want := begin + st.server.options.UDPSize; cap(st.out) < want {
		grown := make([]byte, len(st.out), 2*want)
		copy(grown, st.out)
		st.out = grown
	}
	return st.out[:begin][begin:]
}

// put appends a response. If it lies in the room that was given, it is not copied.
func (st *stream) put(response []byte) error {
	if len(response) == 0 {
		return nil
	}
	if len(response) > maxMessage {
		return fmt.Errorf("a response of %d octets, more than a message can have", len(response))
	}
	st.out = binary.BigEndian.AppendUint16(st.out, uint16(len(response))) //nolint:gosec // G115: checked above
	if begin := len(st.out); cap(st.out) > begin && &st.out[:begin+1][begin] == &response[0] {
		st.out = st.out[:begin+len(response)]
		return nil
	}
	st.out = append(st.out, response...)
	return nil
}

// send sends one message of several at once.
func (st *stream) send(message []byte) error {
	if err := st.put(message); err != nil {
		return err
	}
	return st.flush()
}
