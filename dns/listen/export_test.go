package listen

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
