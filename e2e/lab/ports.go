package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

// The first and last port that the lab picks. They lie below the range from which Linux takes the ports of outgoing
// connections, so that the ports of a cluster that is down for a while are still free when it starts again, and below
// the NodePorts of Kubernetes.
const (
	firstPort = 20000
	lastPort  = 29999
)

// portAttempts bounds the search for one free port.
const portAttempts = 200

// Ports hands out free TCP ports of 127.0.0.1, never the same one twice. Free means free at that moment: another
// program may take a port before it is used, so whoever uses one must be ready to ask for another.
type Ports struct {
	mu    sync.Mutex
	given map[int]bool
	// pick proposes a port; a field so that tests can force collisions.
	pick func() int
}

// NewPorts returns a Ports whose proposals come from pick; nil means random ports of the lab's own range.
func NewPorts(pick func() int) *Ports {
	if pick == nil {
		last := lastPort
		if low := ephemeralLow(); low > firstPort && low <= last {
			last = low - 1
		}
		pick = func() int { return firstPort + rand.IntN(last-firstPort+1) } //nolint:gosec // G404: not a secret
	}
	return &Ports{given: map[int]bool{}, pick: pick}
}

// Free returns a port that was free a moment ago. When the lab's range is used up it falls back to whatever the
// kernel offers; the error tells if that fails too.
func (p *Ports) Free() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range portAttempts {
		if port := p.pick(); !p.given[port] && portFree(port) {
			p.given[port] = true
			return port, nil
		}
	}
	for range portAttempts {
		port, err := kernelPort()
		if err != nil {
			return 0, fmt.Errorf("finding a free port on 127.0.0.1: %w", err)
		}
		if !p.given[port] {
			p.given[port] = true
			return port, nil
		}
	}
	return 0, errors.New("finding a free port on 127.0.0.1: every port tried is in use")
}

// portFree tells whether a server could listen on 127.0.0.1:port right now.
func portFree(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func kernelPort() (int, error) {
	l, err := net.Listen("tcp", loopback(0))
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ephemeralLow is the first port that Linux gives to outgoing connections, 0 if unknown.
func ephemeralLow() int {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	low, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\t")
	n, err := strconv.Atoi(low)
	if err != nil {
		return 0
	}
	return n
}
