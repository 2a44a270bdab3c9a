package enrolment_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

func TestLimiter(t *testing.T) {
	now := time.Now()
	limiter := enrolment.NewLimiter(3, time.Second, func() time.Time { return now })
	allowed := func(caller string, times int) int {
		n := 0
		for range times {
			if limiter.Allow(caller) {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		reason string
		caller string
		after  time.Duration
		want   int // of ten
	}{
		{"The burst.", "a", 0, 3},
		{"Each counts by itself.", "b", 0, 3},
		{"One more per second.", "a", time.Second, 1},
		{"Half a second is not one.", "a", time.Second / 2, 0},
		{"The other half.", "a", time.Second / 2, 1},
		{"Nobody saves up more than a burst.", "a", time.Hour, 3},
	} {
		now = now.Add(step.after)
		if got := allowed(step.caller, 10); got != step.want {
			t.Errorf("%s\ngot %d, want %d", step.reason, got, step.want)
		}
	}
	for i := range 2 * enrolment.MaxBuckets {
		limiter.Allow(fmt.Sprint("stranger ", i))
	}
	if got := limiter.Buckets(); got > enrolment.MaxBuckets {
		t.Errorf("%d callers are remembered, more than %d", got, enrolment.MaxBuckets)
	}
	if allowed("new", 1) != 0 {
		t.Error("when there is no room, a new caller has no limit")
	}
	now = now.Add(time.Hour)
	if allowed("new", 1) != 1 {
		t.Error("those who called long ago keep others out")
	}
}

func TestSourceOf(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		address net.Addr
		want    string
	}{
		"IPv4":   {"One address, whatever the port.", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, "192.0.2.1"},
		"Mapped": {"The same address on a socket for IPv6.", &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 2}, "192.0.2.1"},
		"IPv6":   {"A subscriber has a /64.", &net.TCPAddr{IP: net.ParseIP("2001:db8::1:2:3:4"), Port: 1}, "2001:db8::/64"},
		"Zone":   {"A zone is not part of who it is.", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}, "fe80::/64"},
		"Unix":   {"Not an address of IP.", &net.UnixAddr{Name: "/x"}, "/x"},
		"None":   {"Nobody knows.", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := enrolment.SourceOf(tc.address); got != tc.want {
				t.Errorf("%s\ngot %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// TestConnections: above the limit, connections are closed at once; those that end make room.
func TestConnections(t *testing.T) {
	inner := bufconn.Listen(1)
	listener := enrolment.NewLimited(inner, 3, 2) // all of bufconn's come from the same source
	defer func() { _ = listener.Close() }()
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := inner.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	third := dial()
	if err := third.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Read(make([]byte, 1)); err == nil || err.Error() != "EOF" {
		t.Errorf("a third connection of one source: %v", err)
	}
	for range 2 { // closing twice makes room once
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dial()
	<-accepted
	fifth := dial()
	if _, err := fifth.Read(make([]byte, 1)); err == nil {
		t.Error("closing a connection twice made room for two")
	}
}
