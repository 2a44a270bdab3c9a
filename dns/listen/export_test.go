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
