package transfer

import (
	"fmt"
	"iter"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// batch is how many octets of records go into one message, before compression. Owners share their ends, so that messages
// come out smaller; pointers reach 16 KiB.
const batch = 24 << 10

// Send gives the peer a zone, in as many messages as it takes: whole, or for an IXFR of somebody who is up to date the
// SOA alone. query is an AXFR or IXFR that Verify found to be of a secondary. send may block; its error ends the transfer.
func (s *Server) Send(query *dns.Msg, from *Signature, tree *zone.Tree, apex *zone.Apex, send func([]byte) error) error {
	out := envelope{query: query, from: from, server: s, send: send}
	for rr := range contents(query, tree, apex) {
		if err := out.add(rr); err != nil {
			return fmt.Errorf("transferring zone %s to the secondary with key %q: %w", apex.Name(), from.Key(), err)
		}
	}
	if err := out.flush(); err != nil {
		return fmt.Errorf("transferring zone %s to the secondary with key %q: %w", apex.Name(), from.Key(), err)
	}
	return nil
}

// contents yields what answers the query.
func contents(query *dns.Msg, tree *zone.Tree, apex *zone.Apex) iter.Seq[dns.RR] {
	soa := apex.SOA().RRs(apex.Name())[0]
	return func(yield func(dns.RR) bool) {
		if !yield(soa) || UpToDate(query, apex) {
			return
		}
		whole := true
		tree.Walk(apex, func(owner string, node *zone.Node) bool {
			whole = yieldNode(owner, node, yield)
			return whole
		})
		if whole {
			yield(soa)
		}
	}
}

// yieldNode yields the records at a name but for the SOA, and reports whether more are wanted.
func yieldNode(owner string, node *zone.Node, yield func(dns.RR) bool) bool {
	for _, set := range node.RRsets() {
		if set.Type() == dns.TypeSOA {
			continue
		}
		for _, rr := range set.RRs(owner) {
			if !yield(rr) {
				return false
			}
		}
	}
	return true
}

// UpToDate tells whether an IXFR is from somebody who has the zone already: its serial is ours, or a later one.
func UpToDate(query *dns.Msg, apex *zone.Apex) bool {
	if query.Question[0].Qtype != dns.TypeIXFR || len(query.Ns) != 1 {
		return false
	}
	soa, ok := query.Ns[0].(*dns.SOA)
	return ok && int32(soa.Serial-apex.Serial()) >= 0 //nolint:gosec // serial arithmetic (RFC 1982)
}

// envelope collects records for one message.
type envelope struct {
	query  *dns.Msg
	from   *Signature
	server *Server
	send   func([]byte) error

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
