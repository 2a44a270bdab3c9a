package echo

// Release ends the drain of a server that was told to end.
func (s *Server) Release() { s.state.release() }

// Waiting returns how many requests delay or hang.
func (s *Server) Waiting() int { return len(s.state.waiting) }

// Requests returns how many requests were counted.
func (s *Server) Requests() uint64 { return s.state.requests.Load() }

// Bounds of what clients may send.
const (
	MaxBody  = maxBody
	MaxBytes = maxBytes
	MaxLine  = maxLine
)
