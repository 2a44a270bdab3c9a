package soak_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is what a client does.
type kind string

const (
	call    kind = "call"
	secure  kind = "passthrough"
	query   kind = "query"
	bulk    kind = "bulk"
	stream  kind = "stream"
	abort   kind = "abort"
	command kind = "churn"
	// repeated are queries that were asked again, which is no failure: datagrams may get lost.
	repeated kind = "query again"
)

// long tells whether clients of a kind stay for so long that any fault may meet them.
func (k kind) long() bool { return k == bulk || k == stream }

// How near to a fault a client may notice it: when it came around that time, or, if it stays for long, when it ended after
// it. What a tunnel that died held ends a second later at most, and what a gateway that stops holds after its time to drain.
const (
	near  = time.Second
	after = 4 * time.Second
)

// failure is what a client has noticed.
type failure struct {
	kind  kind
	where string
	began time.Time
	ended time.Time
	err   error
}

// event is a fault, or its end.
type event struct {
	what string
	at   time.Time
}

// books are what happened. Their size does not grow with what goes well.
type books struct {
	mu         sync.Mutex
	did        map[kind]int
	failures   []failure
	events     []event
	seen       []uint64 // requests that a pod has seen, a bit each
	duplicates int
	next       uint64
	worst      map[kind]time.Duration
}

// request returns the number of a new request.
func (b *books) request() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return b.next
}

// arrived notes that a pod has seen a request.
func (b *books) arrived(number uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number > b.next {
		b.duplicates++ // it was made up
		return
	}
	for uint64(len(b.seen)) <= number/64 {
		b.seen = append(b.seen, 0)
	}
	if b.seen[number/64]&(1<<(number%64)) != 0 {
		b.duplicates++
	}
	b.seen[number/64] |= 1 << (number % 64)
}

// note notes a fault, or its end.
func (b *books) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event{what, time.Now()})
}

// done notes what became of something.
func (b *books) done(k kind, where string, began time.Time, err error) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did[k]++
	if err != nil {
		b.failures = append(b.failures, failure{k, where, began, now, err})
		return
	}
	b.worst[k] = max(b.worst[k], now.Sub(began))
}

// unexplained returns the failures that no fault explains.
func (b *books) unexplained() []failure {
	b.mu.Lock()
	defer b.mu.Unlock()
	var bad []failure
	for _, f := range b.failures {
		if !b.explained(&f) {
			bad = append(bad, f)
		}
	}
	return bad
}

// describe says when it was, for people.
func (b *books) describe(f *failure) string {
	return fmt.Sprintf("%s in %s at %s, after %v, %v after %q: %v", f.kind, f.where, f.began.Format("15:04:05.000"),
		f.ended.Sub(f.began).Round(time.Millisecond), f.ended.Sub(b.before(f.ended).at).Round(time.Millisecond), b.before(f.ended).what, f.err)
}

func (b *books) explained(f *failure) bool {
	return slices.ContainsFunc(b.events, func(e event) bool {
		if f.kind.long() {
			return !e.at.Before(f.ended.Add(-after)) && !e.at.After(f.ended)
		}
		return !e.at.Before(f.began.Add(-near)) && !e.at.After(f.began.Add(near))
	})
}

// before returns what happened last.
func (b *books) before(at time.Time) event {
	for _, e := range slices.Backward(b.events) {
		if !e.at.After(at) {
			return e
		}
	}
	return event{what: "nothing"}
}

// String returns what was done and what was noticed, for people.
func (b *books) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	failed, noticed, happened := map[kind]int{}, map[string]map[kind]int{}, map[string]int{}
	for _, e := range b.events {
		happened[e.what]++
		noticed[e.what] = map[kind]int{}
	}
	for _, f := range b.failures {
		failed[f.kind]++
		if by := noticed[b.before(f.ended).what]; by != nil {
			by[f.kind]++
		}
	}
	lines := []string{fmt.Sprintf("%d requests, %d seen twice", b.next, b.duplicates)}
	for _, k := range slices.Sorted(maps.Keys(b.did)) {
		lines = append(lines, fmt.Sprintf("%-12s %8d, noticed a fault %5d, slowest that went well %v", k, b.did[k], failed[k], b.worst[k].Round(time.Millisecond)))
	}
	for _, what := range slices.Sorted(maps.Keys(happened)) {
		lines = append(lines, fmt.Sprintf("%4d × %-32s noticed as the last thing that happened: %v", happened[what], what, noticed[what]))
	}
	return strings.Join(lines, "\n")
}
