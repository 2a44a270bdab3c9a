package wan_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan"
)

func TestRoutes(t *testing.T) {
	var routes wan.Routes
	for port, ranges := range [][]netip.Prefix{
		{netip.MustParsePrefix("172.20.0.0/24"), netip.MustParsePrefix("10.0.0.0/16")},
		{netip.MustParsePrefix("172.20.1.0/24")},
	} {
		if err := routes.Add(port, ranges...); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		reason, addr string
		port         int
	}{
		{"the first address of a range", "172.20.0.0", 0},
		{"the last address of a range", "172.20.0.255", 0},
		{"the next range is another's", "172.20.1.0", 1},
		{"a larger range of the same port", "10.0.77.9", 0},
		{"a range that was not added: its pods cannot be reached", "10.1.0.1", -1},
		{"the Internet is not connected", "1.1.1.1", -1},
		{"loopback", "127.0.0.1", -1},
		{"broadcast", "255.255.255.255", -1},
	}
	for _, test := range tests {
		if got := routes.Find(netip.MustParseAddr(test.addr)); got != test.port {
			t.Errorf("%s leads to %d, want %d: %s", test.addr, got, test.port, test.reason)
		}
	}
}

func TestRoutesRefuse(t *testing.T) {
	tests := []struct{ reason, prefix, err string }{
		{"two clusters cannot have one address", "10.0.3.0/24", "overlaps 10.0.0.0/16"},
		{"nor can a range hold another's", "10.0.0.0/8", "overlaps 10.0.0.0/16"},
		{"only IPv4 is carried", "fd00::/8", "only IPv4"},
	}
	for _, test := range tests {
		var routes wan.Routes
		if err := routes.Add(0, netip.MustParsePrefix("10.0.0.0/16")); err != nil {
			t.Fatal(err)
		}
		err := routes.Add(1, netip.MustParsePrefix(test.prefix))
		if err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: error %v, want one with %q: %s", test.prefix, err, test.err, test.reason)
		}
	}
}

// frame is an Ethernet frame with an IPv4 packet of the given length, and what follows it.
func frame(length, after int) []byte {
	ip := make([]byte, max(length, 20))
	ip[0] = 0x45
	ip[2], ip[3] = byte(length>>8), byte(length)
	copy(ip[12:], []byte{172, 20, 0, 11, 172, 20, 1, 12})
	return slices.Concat(make([]byte, 14), ip, make([]byte, after))
}

func TestAddresses(t *testing.T) {
	version6 := frame(100, 0)
	version6[14] = 0x60
	tests := []struct {
		reason string
		frame  []byte
		length int // of the packet; 0: it is none
	}{
		{"a whole packet", frame(100, 0), 100},
		{"the largest packet", frame(1500, 0), 1500},
		{"the least packet, in a frame that was filled up", frame(20, 26), 20},
		{"its end is missing", frame(100, 0)[:113], 0},
		{"its header is not whole", frame(100, 0)[:33], 0},
		{"it is shorter than its header says that it is", frame(19, 0), 0},
		{"another version", version6, 0},
		{"a frame without a packet", make([]byte, 14), 0},
		{"nothing", nil, 0},
		{"a frame that may have been cut off", frame(2048-14, 0), 0},
	}
	for _, test := range tests {
		source, destination, length, ok := wan.Addresses(test.frame)
		if ok != (test.length > 0) {
			t.Errorf("read: %v: %s", ok, test.reason)
			continue
		}
		if ok && (length != test.length || source.String() != "172.20.0.11" || destination.String() != "172.20.1.12") {
			t.Errorf("%d bytes from %s to %s: %s", length, source, destination, test.reason)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add(frame(100, 0))
	f.Add(frame(20, 26))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if _, _, length, ok := wan.Addresses(frame); ok && (length < 20 || length > len(frame)-14) {
			t.Errorf("a packet of %d bytes in a frame of %d", length, len(frame))
		}
	})
}

func TestScheduleOrder(t *testing.T) {
	now := 10 * time.Millisecond
	s := schedule(t, func() time.Duration { return now })
	for number, due := range map[int]time.Duration{3: 3 * time.Millisecond, 1: time.Millisecond, 11: 11 * time.Millisecond, 10: 10 * time.Millisecond} {
		s.Add(number, due)
	}
	for number := 4; number < 9; number++ { // at one time: in the order in which they were added
		s.Add(number, 4*time.Millisecond)
	}
	var got []int
	for n := s.Next(); n != 0; n = s.Next() {
		got = append(got, n)
	}
	if want := []int{1, 3, 4, 5, 6, 7, 8, 10}; !slices.Equal(got, want) {
		t.Errorf("due are %v, want %v", got, want)
	}
	now = 11 * time.Millisecond
	if got := s.Next(); got != 11 {
		t.Errorf("due is %d: its time has come now", got)
	}
}

func TestScheduleRings(t *testing.T) {
	start := time.Now()
	s := schedule(t, func() time.Duration { return time.Since(start) })
	deadline := time.Now().Add(time.Minute)
	s.Add(3, time.Hour)
	s.Add(2, 20*time.Millisecond) // sooner than what the timer was set to
	s.Add(1, 10*time.Millisecond)
	for _, want := range []int{1, 2} {
		got := 0
		for got == 0 {
			if err := s.Wait(deadline); err != nil {
				t.Fatalf("waiting for packet %d: %v", want, err)
			}
			got = s.Next()
		}
		if at := time.Since(start); got != want || at < time.Duration(want)*10*time.Millisecond {
			t.Errorf("packet %d is delivered at %s, want packet %d", got, at, want)
		}
		if again := s.Next(); again != 0 && again != want+1 { // a busy machine may be late for both
			t.Errorf("packet %d is due an hour too early", again)
		} else if again != 0 {
			return
		}
	}
}

func schedule(t *testing.T, now func() time.Duration) wan.Schedule {
	t.Helper()
	s, err := wan.NewSchedule(now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
