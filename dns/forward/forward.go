package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

// Options say whom to ask. A zero field has the default beside it.
type Options struct {
	Upstreams []netip.AddrPort // at least one, in order of preference

	Timeout time.Duration // of one attempt: 1 s
	// Attempts bounds the packets and connections that one question costs, over all upstreams: 3. Asking again over TCP
	// what did not fit into UDP is part of an attempt.
	Attempts int
	Waiting  int           // questions that may be under way at a time: 256
	Rest     time.Duration // for which an upstream that failed is asked last: 5 s

	Entries int           // answers to remember: 4096, of at most 4 KiB
	MaxTTL  time.Duration // for which an answer is remembered: 1 h
	// MaxNegativeTTL is the same for answers that there is nothing: 5 min (RFC 2308, section 5 allows up to three hours).
	MaxNegativeTTL time.Duration

	Now func() time.Time // time.Now
}

func (o Options) orDefault() Options {
	o.Timeout = cmp.Or(o.Timeout, time.Second)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.Waiting = cmp.Or(o.Waiting, 256)
	o.Rest = cmp.Or(o.Rest, 5*time.Second)
	o.Entries = cmp.Or(o.Entries, 4096)
	o.MaxTTL = cmp.Or(o.MaxTTL, time.Hour)
	o.MaxNegativeTTL = cmp.Or(o.MaxNegativeTTL, 5*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// ErrBusy is returned while Options.Waiting questions are under way.
var ErrBusy = errors.New("too many questions are waiting for upstream name servers")

// Forwarder asks upstreams. Its methods may be called by any number of goroutines.
type Forwarder struct {
	options Options
	client  exchanger
	cache   *lru.Cache[key, *entry]

	mu        sync.Mutex
	flights   map[key]*flight
	upstreams []upstream
	stats     Stats
}

// upstream is one server, and until when it is asked last.
type upstream struct {
	addr  netip.AddrPort
	until time.Time
}

// flight is a question under way. answer and err are set before done is closed.
type flight struct {
	done   chan struct{}
	answer *dns.Msg
	err    error
}

// Stats counts what a Forwarder did.
type Stats struct {
	Hits      uint64 // questions answered from memory, or of which it was remembered that nobody answers
	Misses    uint64 // questions that were not
	Joined    uint64 // of the misses, those that waited for the same question of somebody else
	Attempts  uint64 // messages sent upstream
	Failures  uint64 // of the attempts, those without a usable answer
	Remembers int    // answers in memory now
}

// New returns a Forwarder. It sends nothing yet.
func New(o Options) (*Forwarder, error) {
	o = o.orDefault()
	if len(o.Upstreams) == 0 {
		return nil, errors.New("no upstream name servers are given: name at least one address and port")
	}
	cache, err := lru.New[key, *entry](o.Entries)
	if err != nil {
		return nil, fmt.Errorf("making a cache of %d answers: %w", o.Entries, err)
	}
	f := &Forwarder{options: o, client: network{o.Timeout}, cache: cache, flights: map[key]*flight{}}
	for _, addr := range o.Upstreams {
		if !addr.IsValid() || addr.Port() == 0 {
			return nil, fmt.Errorf("upstream name server %q has no address or no port", addr)
		}
		f.upstreams = append(f.upstreams, upstream{addr: addr})
	}
	return f, nil
}

// Stats returns what was counted so far.
func (f *Forwarder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := f.stats
	stats.Remembers = f.cache.Len()
	return stats
}

// Cached answers a query from memory, or returns nil. What it returns is the caller's.
func (f *Forwarder) Cached(query *dns.Msg) *dns.Msg {
	answer := f.recall(keyOf(query))
	f.mu.Lock()
	defer f.mu.Unlock()
	if answer == nil {
		return nil
	}
	f.stats.Hits++
	return reply(answer, query)
}

// Ask answers a query, from memory or by asking upstream. The query has one question; of the rest, only the flag CD
// (RFC 4035, 3.2.2) and DO of its OPT are passed on. The answer is the caller's; it has no OPT. The error is ErrBusy, that
// of ctx, or the last upstream's.
func (f *Forwarder) Ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	if answer := f.Cached(query); answer != nil {
		return answer, nil
	}
	if err := f.failed(keyOf(query)); err != nil {
		f.mu.Lock()
		f.stats.Hits++
		f.mu.Unlock()
		return nil, err
	}
	under, err := f.join(keyOf(query), query)
	if err != nil {
		return nil, err
	}
	select {
	case <-under.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for an upstream name server: %w", ctx.Err())
	}
	if under.err != nil {
		return nil, under.err
	}
	return reply(under.answer.Copy(), query), nil
}

// join returns the flight of a question, which it may have to start. It does not depend on who asks first, so that nobody
// suffers when that one leaves.
func (f *Forwarder) join(k key, query *dns.Msg) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Misses++
	if under, ok := f.flights[k]; ok {
		f.stats.Joined++
		return under, nil
	}
	if len(f.flights) >= f.options.Waiting {
		return nil, ErrBusy
	}
	under := &flight{done: make(chan struct{})}
	f.flights[k] = under
	go f.fly(k, question(query), under)
	return under, nil
}

func (f *Forwarder) fly(k key, query *dns.Msg, under *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*f.options.Timeout*time.Duration(f.options.Attempts))
	defer cancel()
	under.answer, under.err = f.ask(ctx, query)
	if under.err == nil {
		f.remember(k, under.answer)
	} else {
		f.rememberFailure(k, under.err)
	}
	f.mu.Lock()
	delete(f.flights, k)
	f.mu.Unlock()
	close(under.done)
}

// ask tries the upstreams until one answers. An answer that says that the server itself failed is returned only if no
// other server does better.
func (f *Forwarder) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	var failed *dns.Msg
	var last error
	order := f.order()
	for n := range f.options.Attempts {
		addr := order[n%len(order)]
		query.Id = dns.Id()
		answer, err := f.client.exchange(ctx, query, addr)
		if err == nil {
			err = fits(query, answer)
		}
		good := err == nil && answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused &&
			answer.Rcode != dns.RcodeNotImplemented && answer.Rcode != dns.RcodeFormatError
		f.noteAttempt(addr, good)
		switch {
		case good:
			return strip(answer), nil
		case err == nil:
			failed = strip(answer)
		default:
			last = fmt.Errorf("asking upstream name server %s for %s: %w", addr, query.Question[0].Name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if failed != nil {
		return failed, nil
	}
	return nil, last
}

// order returns the upstreams, those that failed lately last.
func (f *Forwarder) order() []netip.AddrPort {
	now := f.options.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	var well, ill []netip.AddrPort
	for _, u := range f.upstreams {
		if now.Before(u.until) {
			ill = append(ill, u.addr)
		} else {
			well = append(well, u.addr)
		}
	}
	return append(well, ill...)
}

func (f *Forwarder) noteAttempt(addr netip.AddrPort, good bool) {
	now := f.options.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Attempts++
	if !good {
		f.stats.Failures++
	}
	for i := range f.upstreams {
		if u := &f.upstreams[i]; u.addr == addr && good {
			u.until = time.Time{}
		} else if u.addr == addr {
			u.until = now.Add(f.options.Rest)
		}
	}
}

// question returns what is sent upstream for a query.
func question(query *dns.Msg) *dns.Msg {
	q := new(dns.Msg)
	q.RecursionDesired, q.CheckingDisabled = true, query.CheckingDisabled
	q.Question = []dns.Question{query.Question[0]}
	q.Question[0].Name = strings.ToLower(q.Question[0].Name)
	opt := query.IsEdns0()
	q.SetEdns0(udpSize, opt != nil && opt.Do())
	return q
}

// reply makes answer the response to query. It modifies answer.
func reply(answer, query *dns.Msg) *dns.Msg {
	answer.Id, answer.Opcode, answer.Response = query.Id, dns.OpcodeQuery, true
	answer.RecursionDesired, answer.RecursionAvailable = query.RecursionDesired, true
	answer.CheckingDisabled, answer.Authoritative, answer.Truncated = query.CheckingDisabled, false, false
	opt := query.IsEdns0()
	answer.AuthenticatedData = answer.AuthenticatedData && (query.AuthenticatedData || opt != nil && opt.Do())
	answer.Question = []dns.Question{query.Question[0]}
	answer.Compress = true
	return answer
}

// strip removes what is between the upstream and us only (RFC 6891, 6.1.1).
func strip(answer *dns.Msg) *dns.Msg {
	kept := answer.Extra[:0]
	for _, rr := range answer.Extra {
		if t := rr.Header().Rrtype; t != dns.TypeOPT && t != dns.TypeTSIG {
			kept = append(kept, rr)
		}
	}
	answer.Extra = kept
	return answer
}

// fits tells whether an answer is one to the query, so that a packet with a guessed id does not get in.
func fits(query, answer *dns.Msg) error {
	q := query.Question[0]
	if !answer.Response || len(answer.Question) != 1 || answer.Question[0].Qtype != q.Qtype ||
		answer.Question[0].Qclass != q.Qclass || !strings.EqualFold(answer.Question[0].Name, q.Name) {
		return errors.New("the answer is one to another question")
	}
	return nil
}
