package tunnel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestOpenFrame(t *testing.T) {
	label := strings.Repeat("a", 63)
	for name, tc := range map[string]struct {
		reason  string
		request tunnel.Request
		wantErr string
	}{
		"Plain":     {reason: "The usual case.", request: ask},
		"Largest":   {reason: "Everything as long as it may be.", request: tunnel.Request{Service: clusterset.Key{Namespace: label, Name: label}, Port: 65535, Hostname: label, Datagrams: true, Data: make([]byte, tunnel.MaxData)}},
		"Probe":     {reason: "No service asks for the gateway.", request: tunnel.Request{}},
		"ProbeData": {reason: "A probe may say something.", request: tunnel.Request{Data: []byte("x")}},
		"ProbePort": {reason: "A gateway has no ports.", request: tunnel.Request{Port: 1}, wantErr: "no service"},
		"Data":      {reason: "The first flight is limited.", request: tunnel.Request{Service: web, Port: 80, Data: make([]byte, tunnel.MaxData+1)}, wantErr: "at most"},
		"NoPort":    {reason: "A service has ports.", request: tunnel.Request{Service: web}, wantErr: "no port"},
		"Name":      {reason: "A name is one label.", request: tunnel.Request{Service: clusterset.Key{Namespace: "shop", Name: "web.x"}, Port: 80}, wantErr: "DNS labels"},
		"LongName":  {reason: "With an end.", request: tunnel.Request{Service: clusterset.Key{Namespace: label + "a", Name: "web"}, Port: 80}, wantErr: "DNS labels"},
		"NoName":    {reason: "A namespace is no service.", request: tunnel.Request{Service: clusterset.Key{Namespace: "shop"}, Port: 80}, wantErr: "DNS labels"},
		"Hostname":  {reason: "Nothing else than a label gets into a log.", request: tunnel.Request{Service: web, Port: 80, Hostname: "a\nb"}, wantErr: "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			frame, err := tunnel.AppendOpen(tc.request)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("%s\ngot %v", tc.reason, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			from := bytes.NewReader(append(frame, "rest"...))
			got, err := tunnel.ReadOpen(iotest.OneByteReader(from))
			if diff := cmp.Diff(tc.request, got); diff != "" || err != nil {
				t.Errorf("%s\n%v\n%s", tc.reason, err, diff)
			}
			if from.Len() != len("rest") {
				t.Errorf("%d octets of what follows were read", len("rest")-from.Len())
			}
			for n := range min(len(frame), 300) {
				if _, err := tunnel.ReadOpen(bytes.NewReader(frame[:n])); err == nil {
					t.Errorf("%d of %d octets are understood", n, len(frame))
				}
			}
		})
	}
}

// TestOpenFrameRefuses changes one thing in a good frame.
func TestOpenFrameRefuses(t *testing.T) {
	good, err := tunnel.AppendOpen(tunnel.Request{Service: web, Port: 80, Data: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason string
		at     int
		to     byte
		want   string
	}{
		"Version":   {reason: "A later version says what it is.", at: 0, to: 2, want: "version 2 of tunnels is not understood here, only version 1"},
		"Short":     {reason: "Too short for what has to be there.", at: 2, to: 5, want: "there are 6 to"},
		"Long":      {reason: "Longer than all can be.", at: 1, to: 0xff, want: "there are 6 to"},
		"Flag":      {reason: "A flag that nobody knows may mean something.", at: 3, to: 0x82, want: "flags"},
		"NoFlight":  {reason: "Data that is not announced.", at: 3, to: 0, want: "flags"},
		"Probe":     {reason: "A probe of a service.", at: 3, to: 6, want: "flags"},
		"Namespace": {reason: "A name that is longer than the frame.", at: 6, to: 200, want: "within a name"},
		"Character": {reason: "A name that is none.", at: 7, to: 'S', want: "DNS labels"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(good)
			bad[tc.at] = tc.to
			if _, err := tunnel.ReadOpen(bytes.NewReader(append(bad, make([]byte, 1<<17)...))); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v", tc.reason, err)
			}
		})
	}
}

func TestAnswerFrame(t *testing.T) {
	if err := tunnel.ReadAnswer(bytes.NewReader(tunnel.AppendAnswer(0, ""))); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		reason string
		frame  []byte
		want   string
	}{
		"Version":   {reason: "Another version.", frame: []byte{2, 0, 0, 0}, want: "version 2"},
		"Long":      {reason: "A message has an end.", frame: append([]byte{1, 1, 1, 1}, make([]byte, 257)...), want: "at most 256"},
		"Accepting": {reason: "There is nothing to say to a yes.", frame: []byte{1, 0, 0, 1, 'x'}, want: "accepts"},
		"NoText":    {reason: "It may get into a log.", frame: []byte{1, 1, 0, 1, '\n'}, want: "no text"},
		"NoUTF8":    {reason: "It may get into a log.", frame: []byte{1, 1, 0, 1, 0xff}, want: "no text"},
		"Cut":       {reason: "Half a message is none.", frame: []byte{1, 1, 0, 2, 'x'}, want: "EOF"},
		"Unknown":   {reason: "A code of a later version is a no.", frame: []byte{1, 99, 0, 1, 'x'}, want: "refused: code 99: x"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tunnel.ReadAnswer(bytes.NewReader(tc.frame)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v", tc.reason, err)
			}
		})
	}
}

// FuzzOpenFrame checks that what is understood is written the same again.
func FuzzOpenFrame(f *testing.F) {
	for _, r := range []tunnel.Request{ask, {}, askUDP, {Service: web, Port: 80, Hostname: "web-0", Data: []byte("GET /")}} {
		frame, err := tunnel.AppendOpen(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
	}
	f.Add([]byte{2, 0, 6, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, frame []byte) {
		from := bytes.NewReader(frame)
		r, err := tunnel.ReadOpen(from)
		if err != nil {
			if diff := cmp.Diff(tunnel.Request{}, r); diff != "" {
				t.Errorf("beside an error: %s", diff)
			}
			return
		}
		again, err := tunnel.AppendOpen(r)
		if err != nil || !bytes.Equal(again, frame[:len(frame)-from.Len()]) {
			t.Errorf("%x becomes %x, %v", frame, again, err)
		}
	})
}

// FuzzAnswerFrame checks that an answer that is understood is written the same again.
func FuzzAnswerFrame(f *testing.F) {
	f.Add(tunnel.AppendAnswer(0, ""))
	f.Add(tunnel.AppendAnswer(tunnel.Forbidden, "m1 may not use shop/web"))
	f.Add([]byte{1, 1, 1, 1})
	f.Add([]byte{1, 1, 0, 3, 0xe2, 0x80, 0xa8})
	f.Fuzz(func(t *testing.T, frame []byte) {
		from := bytes.NewReader(frame)
		err := tunnel.ReadAnswer(from)
		no, refused := errors.AsType[*tunnel.Refused](err)
		switch {
		case refused:
			if again := tunnel.AppendAnswer(no.Code, no.Message); !bytes.Equal(again, frame[:len(frame)-from.Len()]) {
				t.Errorf("%x becomes %x", frame, again)
			}
		case err == nil && !bytes.HasPrefix(frame, tunnel.AppendAnswer(0, "")):
			t.Errorf("%x is a yes", frame)
		}
	})
}

// header is one of yamux.
func header(kind byte, flags uint16, stream, length uint32) []byte {
	h := []byte{0, kind}
	h = binary.BigEndian.AppendUint16(h, flags)
	h = binary.BigEndian.AppendUint32(h, stream)
	return binary.BigEndian.AppendUint32(h, length)
}

// TestMisbehaved checks that a peer which breaks the rules loses its tunnel.
func TestMisbehaved(t *testing.T) {
	data := func(n uint32, flags uint16) []byte { return append(header(0, flags, 1, n), make([]byte, n)...) }
	var pings, streams []byte
	for i := range uint32(100) {
		pings = append(pings, header(2, 1, 0, i)...)
		streams = append(streams, header(1, 1, 2*i+1, 0)...)
	}
	for name, tc := range map[string]struct {
		reason string
		say    []byte
		want   string
	}{
		"Nothing": {reason: "The end of a connection is no crime.", want: "closed the tunnel"},
		"Version": {reason: "Not yamux.", say: []byte("GET / HTTP/1.1\r\n\r\n"), want: "neither of which yamux has"},
		"Window":  {reason: "More than was granted would need memory without end.", say: append(header(1, 1, 1, 0), data(300<<10, 0)...), want: "more than it may"},
		"Begin":   {reason: "The same stream twice.", say: append(header(1, 1, 1, 0), header(1, 1, 1, 0)...), want: "must not"},
		"Pings":   {reason: "Each costs an answer.", say: pings, want: "too many pings"},
		"Streams": {reason: "More than twice as many as it may open.", say: streams, want: "must not"},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- tunnel.Serve(there) }()
			go func() { _, _ = io.Copy(io.Discard, here) }()
			_, _ = here.Write(tc.say)
			if tc.want == "closed the tunnel" {
				_ = here.Close()
			}
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s\nit ended by %v", tc.reason, err)
				}
			case <-time.After(patience):
				t.Errorf("%s\nit goes on", tc.reason)
			}
			_ = here.Close()
		})
	}
}

// FuzzSession has a peer say anything at all: the tunnel ends, and nothing is left.
func FuzzSession(f *testing.F) {
	f.Add(header(1, 1, 1, 0))
	f.Add(append(header(1, 1, 1, 0), append(header(0, 0, 1, 5), "hello"...)...))
	f.Add(append(header(0, 1, 1, 5), append([]byte("hello"), header(1, 4, 1, 0)...)...))
	f.Add(append(header(1, 1, 1, 0), append(header(1, 8, 1, 0), header(0, 0, 1, 1)...)...))
	f.Add(append(header(1, 1, 1, 0), append(header(1, 4, 1, 0), header(1, 4, 1, 0)...)...))
	f.Add(append(header(2, 1, 0, 7), header(3, 0, 0, 0)...))
	f.Add(append(header(1, 2, 1, 0), header(3, 0, 0, 2)...))
	f.Fuzz(func(t *testing.T, said []byte) {
		here, there := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- tunnel.Serve(there) }()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		_, _ = here.Write(said)
		_ = here.Close()
		if err := <-ended; err == nil {
			t.Error("it ended without a cause")
		}
	})
}

// TestWindow follows windows of streams that are quick and slow.
func TestWindow(t *testing.T) {
	const kib = 1 << 10
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rtt := 20 * time.Millisecond
	w := tunnel.NewWindow(now, 1<<30)
	if !w.Arrive(256*kib) || w.Consume(10*kib, now, rtt) != 0 {
		t.Error("who has read little says nothing")
	}
	now = now.Add(time.Millisecond)
	if more := w.Consume(54*kib, now, rtt); w.Size() != 512*kib || more != 64*kib+256*kib {
		t.Errorf("a quick stream has a window of %d, and may send %d more", w.Size(), more)
	}
	if !w.Arrive(320*kib) || w.Arrive(1) {
		t.Error("what may arrive is what was granted")
	}
	for range 100 {
		now = now.Add(time.Millisecond)
		if more := w.Consume(w.Size()/4, now, rtt); more > 0 {
			w.Arrive(int64(more))
		}
	}
	if w.Size() != tunnel.MaxWindow || w.Used() != tunnel.MaxWindow-256*kib {
		t.Errorf("a stream that stays quick has a window of %d; used is %d", w.Size(), w.Used())
	}
	for range 100 {
		now = now.Add(5 * time.Second)
		w.Consume(1<<20, now, rtt)
	}
	if w.Size() != 256*kib || w.Used() != 0 {
		t.Errorf("a stream that became slow has a window of %d; used is %d", w.Size(), w.Used())
	}

	w = tunnel.NewWindow(now, 300*kib)
	for range 10 {
		now = now.Add(time.Millisecond)
		w.Consume(128*kib, now, rtt)
	}
	if w.Size() != 512*kib {
		t.Errorf("with a budget for one doubling, the window is %d", w.Size())
	}
	if w.Release(); w.Used() != 0 {
		t.Errorf("%d are kept", w.Used())
	}
}
