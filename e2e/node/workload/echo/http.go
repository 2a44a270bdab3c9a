package echo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

const (
	maxBody    = 1 << 30 // of a request
	maxControl = 64 << 10
	maxBytes   = 1 << 34 // of /bytes, which costs no memory
	chunk      = 64 << 10
)

const jsonType = "application/json"

// httpFront serves HTTP or HTTPS.
type httpFront struct {
	name     string
	state    *state
	listener net.Listener
	server   *http.Server
}

func openHTTP(s *state, address string, secure *tls.Config) (front, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	f := &httpFront{name: answer.HTTP, state: s, listener: listener}
	f.server = &http.Server{
		Handler:           f,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		Protocols:         new(http.Protocols),
		TLSConfig:         secure,
	}
	f.server.Protocols.SetHTTP1(true)
	f.server.Protocols.SetHTTP2(true)
	f.server.Protocols.SetUnencryptedHTTP2(true)
	if secure != nil {
		f.name = answer.HTTPS
	}
	return f, nil
}

func (f *httpFront) protocol() string { return f.name }
func (f *httpFront) addr() net.Addr   { return f.listener.Addr() }

func (f *httpFront) serve() error {
	var err error
	if f.server.TLSConfig != nil {
		err = f.server.ServeTLS(f.listener, "", "")
	} else {
		err = f.server.Serve(f.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (f *httpFront) shutdown(ctx context.Context) {
	if f.server.Shutdown(ctx) != nil {
		_ = f.server.Close()
	}
	_ = f.listener.Close() // in case it was never served
}

// ServeHTTP does not use a ServeMux, which would redirect paths that are to be echoed.
func (f *httpFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control, ready := f.state.current()
	if control.Ready && !ready { // leaving: let clients go elsewhere for their next request
		w.Header().Set("Connection", "close")
	}
	switch r.URL.Path {
	case "/control":
		f.control(w, r)
	case "/requests":
		f.requests(w, r)
	case "/live":
		say(w, http.StatusOK, "live\n")
	case "/ready":
		if ready {
			say(w, http.StatusOK, "ready\n")
		} else {
			say(w, http.StatusServiceUnavailable, "not ready\n")
		}
	default:
		f.work(w, r)
	}
}

func (f *httpFront) control(w http.ResponseWriter, r *http.Request) {
	var c fault.Control
	var err error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		c, _ = f.state.current()
	case http.MethodDelete:
		c = fault.Normal()
		f.state.set(c)
	case http.MethodPut, http.MethodPatch:
		var body []byte
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl)); err != nil {
			break
		}
		c, err = f.state.change(func(base fault.Control) (fault.Control, error) {
			if r.Method == http.MethodPut {
				base = fault.Normal()
			}
			return fault.ParseControl(body, base, answer.Protocols())
		})
	default:
		w.Header().Set("Allow", "GET, PUT, PATCH, DELETE")
		refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("%s /control: use GET, PUT, PATCH or DELETE", r.Method))
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	data, err := json.Marshal(c)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(append(data, '\n'))
}

// work serves what is subject to faults.
func (f *httpFront) work(w http.ResponseWriter, r *http.Request) {
	f.state.named.note(r.Header.Get(answer.RequestHeader))
	a := f.describe(r)
	wish, err := fault.ParseQuery(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	plan := f.state.plan(f.name, wish)
	if r.ContentLength > maxBody {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has %d bytes: send at most %d", r.ContentLength, maxBody))
		return
	}
	stream := r.URL.Path == "/echo" && !plan.Hang && !plan.Drop && plan.Status == 0
	if !stream { // a client is seen to go away only once its body has been read
		if a.HTTP.BodyBytes, err = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("reading the body: %w", err))
			return
		}
	}
	if err := f.state.suffer(r.Context(), plan); errors.Is(err, errBusy) {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	} else if err != nil {
		panic(http.ErrAbortHandler) // closes the connection
	}
	if wish.Close {
		w.Header().Set("Connection", "close")
	}
	switch {
	case stream:
		mirror(w, r)
	case r.URL.Path == "/bytes" && plan.Status == 0:
		sendBytes(w, r)
	default:
		f.send(w, r, a, wish, plan.Status)
	}
}

func (f *httpFront) describe(r *http.Request) answer.Answer {
	server := ""
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		server = local.String()
	}
	a := f.state.answer(f.name, r.RemoteAddr, server)
	a.HTTP = &answer.Web{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Host: r.Host, Proto: r.Proto,
		Headers: answer.Join(r.Header),
	}
	a.TLS = describeTLS(r.TLS)
	return a
}

func describeTLS(c *tls.ConnectionState) *answer.TLS {
	if c == nil {
		return nil
	}
	return &answer.TLS{ServerName: c.ServerName, Version: tls.VersionName(c.Version)}
}

// send writes an answer. White space fills it up to the size that was wished for.
func (f *httpFront) send(w http.ResponseWriter, r *http.Request, a answer.Answer, wish fault.Wish, status int) {
	var text []byte
	if wish.Plain {
		text = []byte(a.Plain())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		text = a.JSON()
		w.Header().Set("Content-Type", jsonType)
	}
	padding := max(wish.Size-int64(len(text))-1, 0)
	if status == 0 {
		status = http.StatusOK
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(text))+padding+1, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(text) //nolint:gosec // G705: it is JSON or plain text, and says so
	_ = repeat(w, ' ', padding)
	_, _ = w.Write([]byte{'\n'})
}

// sendBytes serves /bytes.
func sendBytes(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("n")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		refuse(w, http.StatusBadRequest, fmt.Errorf("n=%s: want a number of bytes from 0 to %d", text, maxBytes))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	if r.Method != http.MethodHead {
		_ = repeat(w, 'x', n)
	}
}

// repeat writes n times the same byte.
func repeat(w io.Writer, b byte, n int64) error {
	buffer := bytes.Repeat([]byte{b}, int(min(n, chunk)))
	for n > 0 {
		sent, err := w.Write(buffer[:min(n, int64(len(buffer)))])
		if err != nil {
			return err // the client has gone
		}
		n -= int64(sent)
	}
	return nil
}

// mirror serves /echo: what arrives is sent back at once.
func mirror(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 always is
	w.Header().Set("Content-Type", "application/octet-stream")
	body := http.MaxBytesReader(w, r.Body, maxBody)
	buffer := make([]byte, chunk)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			if control.Flush() != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the client sees that something is missing
		}
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func refuse(w http.ResponseWriter, status int, err error) {
	data, _ := json.Marshal(map[string]string{"error": err.Error()}) // strings always encode
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
