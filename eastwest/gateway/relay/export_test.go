package relay

// Held tells what a pair holds beside its two sockets: octets in memory, and pipes. It is for the loop's goroutine.
func (p *Pair) Held() (octets, pipes int) {
	for i := range p.ends {
		octets += cap(p.ends[i].rest)
		if p.ends[i].pipe != nil {
			pipes++
		}
	}
	return octets, pipes
}
