package transfer

import (
	"fmt"

	"github.com/miekg/dns"
)

// batch is how many octets of records go into one message, before compression. Owners share their ends, so that messages
// come out smaller; pointers reach 16 KiB.
const batch = 24 << 10

// Send gives the peer a zone, in as many messages as it takes: what changed since the one that the sender of an IXFR has, if
// that is known; the SOA alone, if it has the newest; otherwise all. query is an AXFR or IXFR that Verify found to be of a
// secondary. send may block; its error ends the transfer.
func (s *Server) Send(query *dns.Msg, from *Signature, z Zone, send func([]byte) error) error {
	out := envelope{query: query, from: from, send: send}
	to := receiver{from.Key(), z.To, z.Apex.Name()}
	sent := s.versionsOf(to)
	for rr := range z.contents(query, sent) {
		if err := out.add(rr); err != nil {
			return fmt.Errorf("transferring zone %s to the secondary with key %q: %w", z.Apex.Name(), from.Key(), err)
		}
	}
	if err := out.flush(); err != nil {
		return fmt.Errorf("transferring zone %s to the secondary with key %q: %w", z.Apex.Name(), from.Key(), err)
	}
	if !UpToDate(query, z.Apex) {
		s.sent.Add(to, sent.with(version{z.Apex.Serial(), z.Tree.Sum(z.Apex)}))
	}
	return nil
}

// envelope collects records for one message.
type envelope struct {
	query *dns.Msg
	from  *Signature
	send  func([]byte) error

	records []dns.RR
	size    int
	later   bool // it is not the first message
}

func (e *envelope) add(rr dns.RR) error {
	size := dns.Len(rr)
	if e.size+size > batch {
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.records, e.size = append(e.records, rr), e.size+size
	return nil
}

func (e *envelope) flush() error {
	m := new(dns.Msg)
	m.SetReply(e.query)
	m.Authoritative, m.RecursionDesired, m.Compress = true, false, true
	m.Answer = e.records
	packed, err := e.from.sign(m, e.later)
	if err != nil {
		return err
	}
	e.records, e.size, e.later = nil, 0, true
	return e.send(packed)
}
