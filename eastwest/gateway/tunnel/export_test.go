package tunnel

import (
	"io"
	"net"
	"time"
)

// AppendOpen, ReadOpen, AppendAnswer and ReadAnswer are the frames of a stream.
func AppendOpen(r Request) ([]byte, error)          { return appendOpen(nil, &r) }
func ReadOpen(from io.Reader) (Request, error)      { return readOpen(from) }
func AppendAnswer(code Code, message string) []byte { return appendAnswer(nil, code, message) }
func ReadAnswer(from io.Reader) error               { return readAnswer(from) }

// Serve reads a connection as a server's tunnel does whose TLS is done, until it ends, and returns why it ended.
func Serve(conn net.Conn) error {
	s, err := newSession(conn, sessionOptions{
		timing: timing{heartbeat: time.Minute, dead: time.Hour, linger: time.Minute}, budget: &budget{}, traffic: &traffic{}, streams: 16,
	})
	if err != nil {
		return err
	}
	for {
		mux, err := s.mux.AcceptStream()
		if err != nil {
			break
		}
		t := s.attach(mux)
		s.ended.Go(func() { _, _ = io.Copy(t, t); _ = t.CloseWrite() })
	}
	s.wait()
	if n := s.traffic.streams.Load() + s.traffic.tunnels.Load() + s.budget.used.Load(); n != 0 {
		panic("something is still counted")
	}
	return s.why()
}

// Window is a window of 256 KiB with a budget.
type Window struct {
	window
	budget budget
}

// NewWindow returns one.
func NewWindow(now time.Time, memory int64) *Window {
	return &Window{newWindow(now), budget{limit: memory}}
}

// Arrive and Consume count; Size, Used and Release tell and end.
func (w *Window) Arrive(n int64) bool { return w.arrive(n) }

func (w *Window) Consume(n int64, now time.Time, rtt time.Duration) uint32 {
	return w.consume(n, now, rtt, &w.budget)
}
func (w *Window) Size() int64 { return w.size }
func (w *Window) Used() int64 { return w.budget.used.Load() }
func (w *Window) Release()    { w.release(&w.budget) }
