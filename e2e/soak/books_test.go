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

// unexplained returns the failures that no fault explains, and how many there are in all by kind.
func (b *books) unexplained() ([]string, map[kind]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var bad []string
	count := map[kind]int{}
	for _, f := range b.failures {
		count[f.kind]++
		if !b.explained(&f) {
			bad = append(bad, fmt.Sprintf("%s in %s at %s, after %v, %s: %v", f.kind, f.where, f.began.Format("15:04:05.000"),
				f.ended.Sub(f.began).Round(time.Millisecond), b.before(f.ended), f.err))
		}
	}
	return bad, count
}

func (b *books) explained(f *failure) bool {
	return slices.ContainsFunc(b.events, func(e event) bool {
		if f.kind.long() {
			return !e.at.Before(f.ended.Add(-after)) && !e.at.After(f.ended)
		}
		return !e.at.Before(f.began.Add(-near)) && !e.at.After(f.began.Add(near))
	})
}

// before says what happened last.
func (b *books) before(at time.Time) string {
	for _, e := range slices.Backward(b.events) {
		if !e.at.After(at) {
			return fmt.Sprintf("%v after %q", at.Sub(e.at).Round(time.Millisecond), e.what)
		}
	}
	return "before any fault"
}

// String returns what was done for people.
func (b *books) String() string {
	_, failed := b.unexplained()
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(b.did)) {
		lines = append(lines, fmt.Sprintf("%-12s %8d, noticed a fault %5d, slowest that went well %v", k, b.did[k], failed[k], b.worst[k].Round(time.Millisecond)))
	}
	kinds := map[string]int{}
	for _, e := range b.events {
		kinds[e.what]++
	}
	for _, what := range slices.Sorted(maps.Keys(kinds)) {
		lines = append(lines, fmt.Sprintf("  %4d × %s", kinds[what], what))
	}
	return strings.Join(lines, "\n")
}
