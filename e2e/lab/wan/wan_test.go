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
	var a, b, c wan.Lane
	for _, number := range []int{2, 5, 6, 9, 11} { // number N is due after N ms
		s.Add(&a, number, time.Duration(number)*time.Millisecond)
	}
	s.Add(&b, 12, 12*time.Millisecond)
	s.Add(&c, 1, time.Millisecond)
	s.Add(&c, 8, 8*time.Millisecond)
	// Those of one lane keep their order, and a lane is left for another after two.
	for _, want := range [][]int{{1, 8}, {2, 5}, {6, 9}, nil} {
		if got := s.Next(); !slices.Equal(got, want) {
			t.Errorf("due are %v, want %v", got, want)
		}
	}
	s.Add(&c, 10, 10*time.Millisecond) // the lane was empty
	now = 12 * time.Millisecond
	for _, want := range [][]int{{10}, {11}, {12}, nil} {
		if got := s.Next(); !slices.Equal(got, want) {
			t.Errorf("due are %v, want %v", got, want)
		}
	}
}

func TestScheduleRings(t *testing.T) {
	start := time.Now()
	s := schedule(t, func() time.Duration { return time.Since(start) })
	deadline := time.Now().Add(time.Minute)
	for number, due := range []time.Duration{time.Hour, 20 * time.Millisecond, 10 * time.Millisecond} { // each one sooner
		s.Add(new(wan.Lane), number, due)
	}
	for number := 2; number > 0; {
		if err := s.Wait(deadline); err != nil {
			t.Fatalf("waiting for packet %d: %v", number, err)
		}
		for due := s.Next(); due != nil; due = s.Next() {
			if at := time.Since(start); !slices.Equal(due, []int{number}) || at < time.Duration(30-10*number)*time.Millisecond {
				t.Errorf("packets %v are delivered at %s, want packet %d", due, at, number)
			}
			number--
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
