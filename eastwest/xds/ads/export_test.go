package ads

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
)

// Desk is a view with one session and no network, for tests that play both the source and the client.
type Desk struct {
	view *View
	st   *stream
	now  time.Time
}

// Letter is a response as a test sees it.
type Letter struct {
	URL, Nonce, Version string
	Versions            map[string]string
	Removed             []string
}

// Question is a request as a test makes it.
type Question struct {
	URL, Nonce, Refusal, Version  string
	Names, Subscribe, Unsubscribe []string
	Initial                       map[string]string
}

// sumOf is what wholeRequest has for names.
func sumOf(names []string) uint64 {
	sum := uint64(len(names))
	for _, name := range names {
		sum += maphash.String(namesSeed, name)
	}
	return sum
}

// Decoded reads an encoded DiscoveryRequest as a stream does whose last request for the type had the names before (nil:
// there was none), and tells whether its names count as others.
func Decoded(encoded []byte, before []string) (*discoveryv3.DiscoveryRequest, bool, error) {
	r := &wholeRequest{known: func(string) (uint64, bool) { return sumOf(before), before != nil }}
	// In pieces, as it comes from the network.
	half := len(encoded) / 2
	err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded[:half]), mem.SliceBuffer(encoded[half:])}, r)
	return &r.DiscoveryRequest, r.sum != sumOf(before), err
}

func NewDesk(delta bool, limits Limits) *Desk {
	d := &Desk{view: newView("v", DefaultKinds()), now: time.Unix(0, 0)}
	d.st = &stream{view: d.view, session: newSession(d.view.kinds, delta, limits.orDefault()), awake: make(chan struct{}, 1)}
	d.view.join(d.st)
	return d
}

// Reconnect begins a new stream.
func (d *Desk) Reconnect() {
	d.view.leave(d.st)
	d.st = &stream{view: d.view, session: newSession(d.view.kinds, d.st.session.delta, d.st.session.limits), awake: d.st.awake}
	d.view.join(d.st)
}

func (d *Desk) Apply(u Update)           { d.view.Apply(u) }
func (d *Desk) Advance(by time.Duration) { d.now = d.now.Add(by) }
func (d *Desk) Leave()                   { d.view.leave(d.st) }
func (d *Desk) State(url string) KindState {
	return d.st.session.subs[d.view.kinds.find(url)].state(url, d.now)
}

func (d *Desk) Request(q Question) error {
	kind := d.view.kinds.find(q.URL)
	change, _, err := d.st.session.request(d.view, request{
		kind: kind, nonce: q.Nonce, refusal: q.Refusal, names: q.Names, sum: sumOf(q.Names),
		version: q.Version, subscribe: q.Subscribe, unsubscribe: q.Unsubscribe, initial: q.Initial,
	}, d.now)
	d.view.index(d.st, kind, change)
	return err
}

// Next returns the next response, or nil and when there may be one.
func (d *Desk) Next() (*Letter, time.Time) {
	out, retry := d.st.session.next(d.view, d.now)
	if out == nil {
		return nil, retry
	}
	letter := &Letter{URL: d.view.kinds[out.kind].URL, Nonce: out.nonce, Version: out.version, Versions: map[string]string{}, Removed: out.removed}
	for _, it := range out.items {
		if it.body.any == nil {
			panic("a response holds a resource without content")
		}
		letter.Versions[it.name] = it.body.version
	}
	return letter, retry
}

// Check compares what is kept in several places.
func (d *Desk) Check() error {
	named := 0
	for kind, sub := range d.st.session.subs {
		if sub == nil {
			continue
		}
		var told digest
		count := 0
		for name, r := range sub.records.all() {
			if r.body != nil && r.body != forgotten {
				told = told.plus(name, r.body)
			}
			if r.named {
				count++
			}
			if indexed := slices.Contains(d.view.sets[kind].byName[name], d.st); indexed != r.named {
				return fmt.Errorf("%q: indexed %t, named %t", name, indexed, r.named)
			}
		}
		if told != sub.told {
			return fmt.Errorf("kind %d: told is %v, its records make %v", kind, sub.told, told)
		}
		if count != sub.named {
			return fmt.Errorf("kind %d: %d names counted, %d in records", kind, sub.named, count)
		}
		if all := slices.Contains(d.view.sets[kind].all, d.st); all != sub.wildcard {
			return fmt.Errorf("kind %d: indexed for all %t, wildcard %t", kind, all, sub.wildcard)
		}
		named += count
	}
	if named != d.st.session.names {
		return fmt.Errorf("%d names counted, %d in records", d.st.session.names, named)
	}
	return nil
}

// Shared tells whether two resources hold the same bytes once.
func Shared(a, b Resource) bool { return a.body == b.body }

// Known returns how many different contents are in use.
func (e *Encoder) Known() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.known)
}
