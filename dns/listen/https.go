package listen

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	stdlog "log" //nolint:depguard // net/http wants one
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"

	"github.com/go-logr/logr"
)

// mediaType is that of queries and responses (RFC 8484, section 6).
const mediaType = "application/dns-message"

// headerSize is enough for a GET with the largest query, which base64 makes a third longer.
const headerSize = 96 << 10

// web answers queries over HTTPS.
type web struct {
	server *Server

	mu   sync.Mutex
	open map[net.Conn]*connection
}

// acceptHTTPS serves connections until the listener is closed.
func (s *Server) acceptHTTPS(l *listener) error {
	w := &web{server: s, open: map[net.Conn]*connection{}}
	config := s.options.TLSConfig.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	server := &http.Server{
		Handler:           w,
		ReadHeaderTimeout: s.options.ReadTimeout,
		ReadTimeout:       s.options.ReadTimeout,
		WriteTimeout:      s.options.WriteTimeout,
		IdleTimeout:       s.options.IdleTimeout,
		MaxHeaderBytes:    headerSize,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ConnState:         w.changed,
		ErrorLog:          stdlog.New(complaints{s.log}, "", 0),
	}
	err := server.Serve(tls.NewListener(l.TCPListener, config))
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("accepting connections on tcp %s (https): %w", l.addr, err)
}

// complaints logs what net/http complains about, which is mostly what strangers do.
type complaints struct{ log logr.Logger }

func (d complaints) Write(line []byte) (int, error) {
	d.log.V(1).Info("https: " + string(line))
	return len(line), nil
}

// changed applies the limits to a connection.
func (w *web) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		w.enter(conn)
	case http.StateActive:
		if c := w.find(conn); c != nil {
			w.server.connections.work(c)
		}
	case http.StateIdle:
		if c := w.find(conn); c != nil && !w.server.connections.rest(c) {
			c.close()
		}
	case http.StateClosed, http.StateHijacked:
		if c := w.forget(conn); c != nil {
			w.server.connections.leave(c)
		}
	}
}

func (w *web) enter(conn net.Conn) {
	c := &connection{peer: who(plain(conn.RemoteAddr()).Addr()), count: &w.server.streams[HTTPS], close: func() {
		if outer, ok := conn.(*tls.Conn); ok {
			_ = outer.NetConn().Close() // does not wait for the peer
		}
	}}
	if !w.server.connections.admit(c) {
		c.close()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[conn] = c
}

func (w *web) find(conn net.Conn) *connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[conn]
}

func (w *web) forget(conn net.Conn) *connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.open[conn]
	delete(w.open, conn)
	return c
}

// ServeHTTP answers one query.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != w.server.options.HTTPSPath {
		http.NotFound(rw, r)
		return
	}
	query, status := question(rw, r)
	if status != http.StatusOK {
		http.Error(rw, http.StatusText(status)+": want GET with ?dns=BASE64URL or POST with "+mediaType, status)
		return
	}
	w.server.streams[HTTPS].queries.Add(1)
	from := Source{Transport: HTTPS}
	from.Peer, _ = netip.ParseAddrPort(r.RemoteAddr)
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		from.Local = plain(local)
	}
	from.Peer = netip.AddrPortFrom(from.Peer.Addr().Unmap().WithZone(""), from.Peer.Port())
	response := w.server.respond(make([]byte, 0, w.server.options.UDPSize), query, from)
	if response == nil && w.server.waiter != nil {
		response = w.server.wait(make([]byte, 0, w.server.options.UDPSize), query, from)
	}
	if len(response) == 0 {
		http.Error(rw, "the query has no response", http.StatusBadRequest)
		return
	}
	header := rw.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Content-Length", strconv.Itoa(len(response)))
	header.Set("Cache-Control", "no-store") // answers depend on who asks, and on when
	_, _ = rw.Write(response)               //nolint:gosec // G705: no browser shows this type
}

// question returns the query of a request, or another status than OK.
func question(rw http.ResponseWriter, r *http.Request) (query []byte, status int) {
	var err error
	switch r.Method {
	case http.MethodGet:
		query, err = base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
	case http.MethodPost:
		if r.Header.Get("Content-Type") != mediaType {
			return nil, http.StatusUnsupportedMediaType
		}
		query, err = io.ReadAll(http.MaxBytesReader(rw, r.Body, maxMessage))
	default:
		return nil, http.StatusMethodNotAllowed
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), len(query) > maxMessage:
		return nil, http.StatusRequestEntityTooLarge
	case err != nil, len(query) == 0:
		return nil, http.StatusBadRequest
	default:
		return query, http.StatusOK
	}
}
