package listen

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// BusyEngines returns how many engines got a packet.
func BusyEngines(s *Server) (n int) {
	for _, e := range s.engines {
		if e.packets.Load() > 0 {
			n++
		}
	}
	return n
}

// Who is the peer that an address counts as.
var Who = who

// Idle returns how many connections are idle.
func Idle(s *Server) int {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	return s.connections.idle.Len()
}

// Break replaces the socket of the first engine by something that is none; it notices at the next packet.
func Break(s *Server) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	return unix.Dup3(int(null.Fd()), s.engines[0].fd, unix.O_CLOEXEC)
}

// Parse returns the addresses that one of Options stands for.
func Parse(written string) ([]netip.AddrPort, error) {
	p, err := parse(written)
	return p.addrs, err
}
