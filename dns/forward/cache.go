package forward

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxEntry bounds an answer that is remembered, in octets.
	maxEntry = 4096
	// failureTTL is for how long a failure is remembered, so that clients that insist do not hit upstreams that are in
	// trouble (RFC 9520, 3.2 asks for a second at least).
	failureTTL = time.Second
)

// key is what an answer depends on.
type key struct {
	name        string // lower case
	rrtype      uint16
	class       uint16
	do, checked bool
}

func keyOf(query *dns.Msg) key {
	q := query.Question[0]
	opt := query.IsEdns0()
	return key{strings.ToLower(q.Name), q.Qtype, q.Qclass, opt != nil && opt.Do(), !query.CheckingDisabled}
}

// entry is an answer in wire form, or why there is none.
type entry struct {
	message        []byte
	err            error
	since, expires time.Time
}

// recall returns a remembered answer with the time since taken off its TTLs, or nil.
func (f *Forwarder) recall(k key) *dns.Msg {
	held := f.held(k)
	if held == nil || held.err != nil {
		return nil
	}
	now := f.options.Now()
	answer := new(dns.Msg)
	if err := answer.Unpack(held.message); err != nil {
		f.cache.Remove(k)
		return nil
	}
	age := uint32(max(now.Sub(held.since), 0) / time.Second) //nolint:gosec // at most Options.MaxTTL
	eachTTL(answer, func(ttl *uint32) { *ttl -= min(age, *ttl) })
	return answer
}

// held returns what is remembered, for as long as it may be used.
func (f *Forwarder) held(k key) *entry {
	held, ok := f.cache.Get(k)
	if ok && !f.options.Now().Before(held.expires) {
		f.cache.Remove(k)
		ok = false
	}
	if !ok {
		return nil
	}
	return held
}

// failed returns why a question had no answer a moment ago.
func (f *Forwarder) failed(k key) error {
	if held := f.held(k); held != nil {
		return held.err
	}
	return nil
}

// rememberFailure keeps that no upstream answers.
func (f *Forwarder) rememberFailure(k key, err error) {
	now := f.options.Now()
	f.cache.Add(k, &entry{err: err, since: now, expires: now.Add(failureTTL)})
}

// remember keeps an answer for as long as it may be kept.
func (f *Forwarder) remember(k key, answer *dns.Msg) {
	ttl := f.lifetime(answer)
	if ttl <= 0 || answer.Truncated {
		return
	}
	compressed := answer.Copy()
	compressed.Compress = true
	message, err := compressed.Pack()
	if err != nil || len(message) > maxEntry {
		return
	}
	now := f.options.Now()
	f.cache.Add(k, &entry{message: message, since: now, expires: now.Add(ttl)})
}

// lifetime returns for how long an answer may be remembered. One that says that there is nothing has the SOA record's
// say (RFC 2308, section 5), and is not remembered without one.
func (f *Forwarder) lifetime(answer *dns.Msg) time.Duration {
	switch {
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return failureTTL
	case answer.Rcode == dns.RcodeNameError || !answersQuestion(answer):
		for _, rr := range answer.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				return min(seconds(min(soa.Hdr.Ttl, soa.Minttl)), leastTTL(answer), f.options.MaxNegativeTTL)
			}
		}
		return 0
	default:
		return min(leastTTL(answer), f.options.MaxTTL)
	}
}

// answersQuestion tells whether there is a record of the type asked for, and not aliases alone.
func answersQuestion(answer *dns.Msg) bool {
	asked := answer.Question[0].Qtype
	for _, rr := range answer.Answer {
		if asked == dns.TypeANY || rr.Header().Rrtype == asked {
			return true
		}
	}
	return false
}

func leastTTL(answer *dns.Msg) time.Duration {
	least := ^uint32(0)
	eachTTL(answer, func(ttl *uint32) { least = min(least, *ttl) })
	return seconds(least)
}

func eachTTL(answer *dns.Msg, do func(ttl *uint32)) {
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns, answer.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				do(&rr.Header().Ttl)
			}
		}
	}
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
