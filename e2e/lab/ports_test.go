package lab_test

import (
	"net"
	"testing"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// proposing returns a source of ports that proposes the given ones, the last one for ever.
func proposing(ports ...int) func() int {
	return func() int {
		port := ports[0]
		if len(ports) > 1 {
			ports = ports[1:]
		}
		return port
	}
}

// listen takes a port until the test ends.
func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPortsSkipsTakenOnes(t *testing.T) {
	taken := listen(t)
	free, err := lab.NewPorts(nil).Free()
	if err != nil {
		t.Fatal(err)
	}
	got, err := lab.NewPorts(proposing(taken, free)).Free()
	if err != nil || got != free {
		t.Errorf("with port %d taken: got %d, %v; want %d", taken, got, err, free)
	}
}

func TestPortsAreGivenOnce(t *testing.T) {
	ports := lab.NewPorts(nil)
	seen := map[int]bool{}
	for range 100 {
		port, err := ports.Free()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		if port < lab.FirstPort || port > lab.LastPort {
			t.Errorf("port %d is not in the lab's range", port)
		}
		seen[port] = true
	}
}

func TestPortsFallsBackToTheKernel(t *testing.T) {
	taken := listen(t)
	ports := lab.NewPorts(proposing(taken))
	first, err := ports.Free()
	if err != nil {
		t.Fatal(err)
	}
	second, err := ports.Free()
	if err != nil {
		t.Fatal(err)
	}
	if first == taken || second == taken || first == second {
		t.Errorf("with the range used up: got ports %d and %d, want two free ones", first, second)
	}
}
