package hello_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// recorder is a connection that keeps what is written and never answers.
type recorder struct{ bytes.Buffer }

func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// player is a connection that reads what was recorded.
type player struct {
	recorder

	from io.Reader
}

func (p *player) Read(b []byte) (int, error) { return p.from.Read(b) }

// said returns what crypto/tls says first.
func said(config *tls.Config) []byte {
	var r recorder
	_ = tls.Client(&r, config).HandshakeContext(context.Background()) // it gets no answer
	return r.Bytes()
}

var errSeen = errors.New("seen")

// oracle is what crypto/tls finds.
func oracle(raw []byte) (name string, protocols []string, ok bool) {
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name, protocols, ok = info.ServerName, info.SupportedProtos, true
		return nil, errSeen
	}}
	_ = tls.Server(&player{from: bytes.NewReader(raw)}, config).HandshakeContext(context.Background())
	return name, protocols, ok
}

func protocols(h *hello.Hello) []string {
	var all []string
	for p := range h.Protocols() {
		all = append(all, string(p))
	}
	return all
}

// shapes are clients of many kinds.
func shapes() map[string]*tls.Config {
	long := make([]string, 60)
	for i := range long {
		long[i] = strings.Repeat("p", 200) + string(rune('0'+i%10))
	}
	return map[string]*tls.Config{
		"Plain":        {ServerName: "web.shop.svc.clusterset.local"},
		"HTTP2":        {ServerName: "web.shop.svc.clusterset.local", NextProtos: []string{"h2", "http/1.1"}},
		"Istio":        {ServerName: "outbound_.443_._.web.shop.svc.clusterset.local", NextProtos: []string{"istio-peer-exchange", "istio"}},
		"TLS12":        {ServerName: "a.b", MaxVersion: tls.VersionTLS12},
		"TLS10":        {ServerName: "a.b", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"Classic":      {ServerName: "a.b", CurvePreferences: []tls.CurveID{tls.X25519}},
		"PostQuantum":  {ServerName: "a.b", CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}},
		"LongName":     {ServerName: strings.Repeat(strings.Repeat("x", 62)+".", 3) + "xyz"},
		"ManyOffers":   {ServerName: "a.b", NextProtos: long},
		"LongestOffer": {ServerName: "a.b", NextProtos: []string{strings.Repeat("q", 255), "x"}},
	}
}

// records spreads the message in raw, which is one record, over records as large as next says.
func records(raw []byte, next func() int) []byte {
	message, header := raw[5:], raw[:3]
	var out []byte
	for len(message) > 0 {
		n := min(max(1, next()), len(message))
		out = binary.BigEndian.AppendUint16(append(out, header...), uint16(n))
		out, message = append(out, message[:n]...), message[n:]
	}
	return out
}

func TestShapes(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for name, config := range shapes() {
		t.Run(name, func(t *testing.T) {
			whole := said(config)
			wantName, wantProtocols, ok := oracle(whole)
			if !ok || wantName != config.ServerName {
				t.Fatalf("crypto/tls finds %q in its own ClientHello, want %q", wantName, config.ServerName)
			}
			forms := map[string][]byte{"one record": whole, "records of 97 octets": records(whole, func() int { return 97 })}
			for range 20 {
				forms["random records"] = records(whole, func() int { return 20 + random.IntN(700) })
				if len(whole) < 2500 {
					forms["tiny records"] = records(whole, func() int { return 1 + random.IntN(4) })
				}
				for form, raw := range forms {
					h, at := feed(t, raw, func() int { return 1 + random.IntN(1+random.IntN(1500)) })
					if at != len(raw) {
						t.Errorf("%s: complete after %d of %d octets", form, at, len(raw))
					}
					if string(h.Name()) != wantName || !slices.Equal(protocols(h), wantProtocols) {
						t.Errorf("%s: got %q and %q, want %q and %q", form, h.Name(), protocols(h), wantName, wantProtocols)
					}
				}
			}
		})
	}
}

// feed gives octets in segments, and returns after how many the ClientHello was complete.
func feed(t *testing.T, raw []byte, segment func() int) (*hello.Hello, int) {
	t.Helper()
	h := &hello.Hello{}
	for at := 0; at < len(raw); {
		at = min(len(raw), at+segment())
		complete, err := h.Read(raw[:at])
		if err != nil {
			t.Fatalf("after %d of %d octets: %v", at, len(raw), err)
		}
		if complete {
			return h, at
		}
	}
	t.Fatalf("%d octets make no complete ClientHello", len(raw))
	return nil, 0
}

func TestEveryPrefixIsIncomplete(t *testing.T) {
	raw := records(said(&tls.Config{ServerName: "a.b"}), func() int { return 100 })
	h, at := feed(t, raw, func() int { return 1 })
	if at != len(raw) || string(h.Name()) != "a.b" {
		t.Errorf("got %q after %d of %d octets", h.Name(), at, len(raw))
	}
}

// extension is a type and its content.
func extension(kind uint16, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, kind), uint16(len(content))), content...)
}

// list puts the length of two octets before something.
func list(content ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(content))), content...)
}

func host(name string) []byte { return append([]byte{0}, list([]byte(name)...)...) }

// message is a ClientHello in one record.
func message(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	if extensions != nil {
		body = append(body, list(slices.Concat(extensions...)...)...)
	}
	return record(22, append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...))
}

func record(kind byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 3, 1}, uint16(len(content))), content...)
}

func TestErrors(t *testing.T) {
	good := message(extension(0, list(host("a.b")...)))
	for name, test := range map[string]struct {
		reason string
		raw    []byte
		want   error
		alert  hello.Alert
	}{
		"HTTP":               {"nobody who speaks HTTP understands an alert", []byte("GET / HTTP/1.1\r\n"), hello.ErrNotTLS, 0},
		"OneOctet":           {"the first octet is enough to know", []byte("G"), hello.ErrNotTLS, 0},
		"SSL2":               {"its header is another", []byte{0x80, 0x2e, 1, 0, 2}, hello.ErrNotTLS, 0},
		"Alert":              {"it is TLS but no handshake", record(21, []byte{2, 40}), hello.ErrNotTLS, 0},
		"ServerHello":        {"a client does not say this", record(22, []byte{2, 0, 0, 4, 0, 0, 0, 0}), hello.ErrUnexpected, hello.UnexpectedMessage},
		"AlertBetween":       {"nothing comes between the records of a message", slices.Concat(records(good, func() int { return 20 })[:25], record(21, []byte{2, 40})), hello.ErrUnexpected, hello.UnexpectedMessage},
		"EmptyRecord":        {"RFC 8446, 5.1 forbids it", record(22, nil), hello.ErrMalformed, hello.DecodeError},
		"LargeRecord":        {"RFC 8446, 5.1", []byte{22, 3, 1, 0x40, 0x01}, hello.ErrOverflow, hello.RecordOverflow},
		"LargeMessage":       {"its size is known at once", record(22, []byte{1, 0, 0x40, 0}), hello.ErrTooLarge, hello.HandshakeFailure},
		"HugeMessage":        {"the size has three octets", record(22, []byte{1, 0xff, 0xff, 0xff}), hello.ErrTooLarge, hello.HandshakeFailure},
		"ManyTinyRecords":    {"headers count too", records(record(22, append([]byte{1, 0, 0x3f, 0}, make([]byte, 0x3f00)...)), func() int { return 1 })[:hello.MaxSize], hello.ErrTooLarge, hello.HandshakeFailure},
		"NoExtensions":       {"TLS 1.0 allows it", message(), hello.ErrNoName, hello.UnrecognizedName},
		"NoName":             {"ALPN alone tells nothing", message(extension(16, list(2, 'h', '2'))), hello.ErrNoName, hello.UnrecognizedName},
		"OtherKindOfName":    {"only hosts are known", message(extension(0, list(append([]byte{1}, list('x')...)...))), hello.ErrNoName, hello.UnrecognizedName},
		"TwoHosts":           {"RFC 6066, 3 forbids it", message(extension(0, list(append(host("a"), host("b")...)...))), hello.ErrSeveralNames, hello.IllegalParameter},
		"TwoExtensions":      {"RFC 8446, 4.2 forbids it", message(extension(0, list(host("a")...)), extension(0, list(host("b")...))), hello.ErrSeveralNames, hello.IllegalParameter},
		"EmptyName":          {"RFC 6066, 3: at least one octet", message(extension(0, list(host("")...))), hello.ErrMalformed, hello.DecodeError},
		"EmptyList":          {"likewise", message(extension(0, list())), hello.ErrMalformed, hello.DecodeError},
		"LongName":           {"no DNS name has 256 octets", message(extension(0, list(host(strings.Repeat("x", 256))...))), hello.ErrNotAService, hello.UnrecognizedName},
		"NameBeyondList":     {"a length that does not fit", message(extension(0, list(0, 0, 9, 'x'))), hello.ErrMalformed, hello.DecodeError},
		"OctetsAfterList":    {"likewise", message(extension(0, append(list(host("a")...), 1))), hello.ErrMalformed, hello.DecodeError},
		"EmptyProtocol":      {"RFC 7301, 3.1: at least one octet", message(extension(16, list(0))), hello.ErrMalformed, hello.DecodeError},
		"TwoALPN":            {"RFC 8446, 4.2 forbids it", message(extension(16, list(1, 'a')), extension(16, list(1, 'b'))), hello.ErrMalformed, hello.DecodeError},
		"ExtensionBeyondEnd": {"a length that does not fit", message([]byte{0, 9, 0, 9}), hello.ErrMalformed, hello.DecodeError},
		"HalfExtension":      {"likewise", message([]byte{0, 9, 0}), hello.ErrMalformed, hello.DecodeError},
		"Truncated":          {"the message ends in its random", record(22, []byte{1, 0, 0, 4, 3, 3, 0, 0}), hello.ErrMalformed, hello.DecodeError},
		"Good":               {"one name is all it takes", good, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{len(test.raw), 1} {
				h, got := &hello.Hello{}, error(nil)
				for at := 0; at < len(test.raw) && got == nil; {
					at = min(len(test.raw), at+step)
					_, got = h.Read(test.raw[:at])
				}
				if !errors.Is(got, test.want) {
					t.Errorf("%s: in steps of %d got %v, want %v", test.reason, step, got, test.want)
				}
				if parse, ok := errors.AsType[hello.ParseError](got); ok && parse.Alert() != test.alert {
					t.Errorf("%s: alert %d, want %d", test.reason, parse.Alert(), test.alert)
				}
			}
		})
	}
}

func TestNothingIsAllocated(t *testing.T) {
	raw := records(said(shapes()["HTTP2"]), func() int { return 300 })
	var h hello.Hello
	if n := testing.AllocsPerRun(100, func() {
		h = hello.Hello{}
		for at := 0; at < len(raw); at += 400 {
			_, _ = h.Read(raw[:at])
		}
		if complete, err := h.Read(raw); !complete || err != nil {
			t.Error(complete, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a ClientHello, want none", n)
	}
}

func TestAlertsAreUnderstood(t *testing.T) {
	alert := hello.UnrecognizedName.Record()
	conn := &player{from: bytes.NewReader(alert[:])}
	err := tls.Client(conn, &tls.Config{ServerName: "a.b"}).HandshakeContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: unrecognized name") { // the type is for QUIC only
		t.Errorf("crypto/tls understands %v, want unrecognized name", err)
	}
}

// stricter tells whether an error may be one although crypto/tls goes on: it overlooks alerts before and between records and their
// versions, takes more, and needs no name.
func stricter(err error, name string) bool {
	return errors.Is(err, hello.ErrNotTLS) || errors.Is(err, hello.ErrUnexpected) || errors.Is(err, hello.ErrTooLarge) || errors.Is(err, hello.ErrNotAService) ||
		errors.Is(err, hello.ErrNoName) && name == ""
}

// FuzzHello holds that what crypto/tls understands is understood in the same way, however it is split, and that nothing
// but ParseErrors come out of anything else.
func FuzzHello(f *testing.F) {
	for _, config := range shapes() {
		raw := said(config)
		f.Add(raw, uint64(1))
		f.Add(records(raw, func() int { return 64 }), uint64(2))
	}
	f.Add(message(extension(0, list(host("a.b")...))), uint64(3))
	f.Add(message(extension(0, list(append(host("a"), host("b")...)...))), uint64(4))
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint64(5))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		var whole, split hello.Hello
		complete, err := whole.Read(raw)
		at, splitComplete, splitErr := 0, false, error(nil)
		for at < len(raw) && splitErr == nil && !splitComplete {
			at = min(len(raw), at+1+random.IntN(1+random.IntN(2000)))
			splitComplete, splitErr = split.Read(raw[:at])
		}
		if complete != splitComplete || !errors.Is(err, splitErr) && err != splitErr { //nolint:errorlint // nil is compared too
			t.Fatalf("at once: %v, %v; split: %v, %v", complete, err, splitComplete, splitErr)
		}
		name, offers, ok := oracle(raw)
		switch {
		case complete && ok:
			if string(whole.Name()) != name || !slices.Equal(protocols(&whole), offers) {
				t.Errorf("got %q and %q, want %q and %q", whole.Name(), protocols(&whole), name, offers)
			}
			if string(split.Name()) != name {
				t.Errorf("split: got %q, want %q", split.Name(), name)
			}
		case ok && !stricter(err, name):
			t.Errorf("crypto/tls finds %q, this one %v, %v", name, complete, err)
		}
	})
}
