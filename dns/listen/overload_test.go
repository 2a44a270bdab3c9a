package listen_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/dns/listen"
)

// childVariable makes the test program a server, which ends when its input does.
const childVariable = "LISTEN_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	if err := child(os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// report is what the server tells at its start, and at its end.
type report struct {
	Addr  netip.AddrPort
	Stats listen.Stats
}

// child serves on a free port with one engine and a handler that is slow for each query: 50 µs are ten times what the
// kernel and the engine need, so that one sender is an overload.
func child(in io.Reader, out io.Writer) error {
	slow := listen.HandlerFunc(func(dst, query []byte, _ listen.Source) []byte {
		for began := time.Now(); time.Since(began) < 50*time.Microsecond; {
			continue
		}
		return append(dst, query...)
	})
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}, slow)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(report{Addr: s.Addrs(listen.UDP)[0]}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	if err := s.Run(ctx); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(report{Stats: s.Stats()})
}

// TestOverload sends a multiple of what a server of its own can answer. It drops the rest, and does not grow.
func TestOverload(t *testing.T) {
	const (
		packets = 200_000 // ten seconds of work, sent in about one
		maxRSS  = 64 << 20
	)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reports := json.NewDecoder(out)
	var began, ended report
	if err := reports.Decode(&began); err != nil {
		t.Fatal(err)
	}
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() { flood(t, began.Addr, packets/4) })
	}
	senders.Wait()
	// Overloaded as it is, it answers again as soon as it may.
	conn := dial(t, "udp", began.Addr)
	if err := conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a query after the flood is answered", func() bool {
		if err := conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("hello"))
		_, err := conn.Read(make([]byte, 64))
		return err == nil
	})
	if peak := peakRSS(t, cmd.Process.Pid); peak > maxRSS {
		t.Errorf("the server took %d MiB at its peak, more than %d", peak>>20, maxRSS>>20)
	}
	_ = in.Close()
	if err := reports.Decode(&ended); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if s := ended.Stats; s.Overflows < packets/2 || s.Panics != 0 {
		t.Errorf("that was no overload, or it was not counted: %+v", s)
	}
}

// flood sends packets as fast as it can, and takes no answers.
func flood(t *testing.T, to netip.AddrPort, packets int) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	query := make([]byte, 64)
	for range packets {
		if _, err := conn.Write(query); err != nil {
			t.Error(err)
			return
		}
	}
}

// peakRSS returns the largest resident set that a process had, in octets.
func peakRSS(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the kernel does not tell the peak")
	return 0
}
