package route

import (
	"cmp"
	"slices"
	"time"
)

// Timing says when ways are left out, and when a second one is tried. A zero field has the default beside it.
type Timing struct {
	Losses     int           // races that a way loses one after the other until it is left out: 2
	BackOff    time.Duration // for which a way is left out the first time; it doubles: 1 s
	MaxBackOff time.Duration // 30 s
	Trial      time.Duration // after which a trial that nobody told the end of is over: 10 s

	// A second way is tried when a connection takes longer than others did: their mean and four mean deviations, as RFC 6298
	// has it for retransmissions.
	MinDelay   time.Duration // at least: 20 ms
	MaxDelay   time.Duration // at most: 250 ms
	Margin     time.Duration // beyond the mean, at least: 10 ms
	MaxMargin  time.Duration // beyond the mean, at most: 75 ms
	FirstDelay time.Duration // for a way of which nothing is known: 100 ms
}

// OrDefault fills in what is zero.
func (t Timing) OrDefault() Timing {
	return Timing{
		Losses:  cmp.Or(t.Losses, 2),
		BackOff: cmp.Or(t.BackOff, time.Second), MaxBackOff: cmp.Or(t.MaxBackOff, 30*time.Second), Trial: cmp.Or(t.Trial, 10*time.Second),
		MinDelay: cmp.Or(t.MinDelay, 20*time.Millisecond), MaxDelay: cmp.Or(t.MaxDelay, 250*time.Millisecond),
		Margin: cmp.Or(t.Margin, 10*time.Millisecond), MaxMargin: cmp.Or(t.MaxMargin, 75*time.Millisecond), FirstDelay: cmp.Or(t.FirstDelay, 100*time.Millisecond),
	}
}

// Result is how an attempt to connect ended.
type Result uint8

// The results.
const (
	// Connected: the way has acknowledged the connection.
	Connected Result = iota
	// Lost: another way, which started later, was faster.
	Lost
	// Failed: it did not work.
	Failed
	// Refused: the gateway at the other end said that the service does not work there. That counts for all gateways of the
	// cluster.
	Refused
	// Absent: there is no tunnel to it at the moment. To find that out costs nothing, so the back-off does not grow.
	Absent
	// Dropped: nobody waits any more, which says nothing about the way.
	Dropped
)

// Ejections remember, for one service, which ways fail, so that they are left out for a while, and how long connections
// take.
//
//	in ── failed, refused, absent, or lost twice in a row ──► out ── the back-off is over ──► due ── Begin ──► on trial
//	▲                                                          ▲                                                │ │
//	│                                                          └── failed, refused, absent, or lost ────────────┘ │
//	└── connected ────────────────────────────────────────────────────────────────────────────────────────────────┘
//
// A way that is out is not usable until a trial has shown that it works; no client should have to wait for that. What began
// before a way was left out changes nothing any more. Ejections never say that nothing is usable: Next takes what is left
// out when there is nothing else, and so a way may connect that is out; then it is in again.
//
// The zero value is not usable. It is not for several goroutines at once.
type Ejections struct {
	timing Timing
	ways   map[Way]*record
	out    map[Way]*record // those of ways that are left out
}

// record is what is known of a way, or of a cluster behind its gateways.
type record struct {
	usual   time.Duration // that connections take: a moving average; 0: not known
	spread  time.Duration // how far from it they are, in the mean
	losses  int
	out     bool
	since   time.Time // when it was left out last
	until   time.Time
	backOff time.Duration
	trial   time.Time // when the trial that is under way began; zero: there is none
}

// Attempt is a connection on its way.
type Attempt struct {
	Way     Way
	Started time.Time
	trial   bool
}

// NewEjections returns Ejections in which every way is in.
func NewEjections(timing Timing) *Ejections {
	return &Ejections{timing: timing.OrDefault(), ways: map[Way]*record{}, out: map[Way]*record{}}
}

// behind returns what stands for all gateways of a way's cluster.
func behind(w Way) Way { return Way{Cluster: w.Cluster, Tunnel: true} }

// subjects returns the records that count for a way: its own, and that of its cluster behind gateways.
func (e *Ejections) subjects(w Way) [2]*record {
	subjects := [2]*record{e.ways[w], nil}
	if w.Tunnel {
		subjects[1] = e.ways[behind(w)]
	}
	return subjects
}

// Usable tells whether a way is in.
func (e *Ejections) Usable(w Way) bool {
	if len(e.out) == 0 {
		return true
	}
	for _, r := range e.subjects(w) {
		if r != nil && r.out {
			return false
		}
	}
	return true
}

// Due tells whether a way is out and should have a trial now. When it has begun, the way is not due any more.
func (e *Ejections) Due(w Way, now time.Time) bool {
	due := false
	for _, r := range e.subjects(w) {
		if r == nil || !r.out {
			continue
		}
		if !e.mayTry(r, now) {
			return false
		}
		due = true
	}
	return due
}

// Trial returns a way that is due, if there is one among the candidates.
func (e *Ejections) Trial(priorities [][]Candidate, now time.Time) (Way, bool) {
	if !e.anyDue(now) {
		return Way{}, false
	}
	for _, candidates := range priorities {
		for _, c := range candidates {
			for w := range c.ways() {
				if e.Due(w, now) {
					return w, true
				}
			}
		}
	}
	return Way{}, false
}

func (e *Ejections) anyDue(now time.Time) bool {
	for _, r := range e.out {
		if e.mayTry(r, now) {
			return true
		}
	}
	return false
}

func (e *Ejections) mayTry(r *record, now time.Time) bool {
	return !now.Before(r.until) && (r.trial.IsZero() || now.Sub(r.trial) >= e.timing.Trial)
}

// Begin notes that a connection is tried on a way. What became of it must be told to End.
func (e *Ejections) Begin(w Way, now time.Time) Attempt {
	a := Attempt{Way: w, Started: now}
	for _, r := range e.subjects(w) {
		if r != nil && r.out && e.mayTry(r, now) {
			r.trial, a.trial = now, true
		}
	}
	return a
}

// End notes what became of an attempt. Jitter, from 0 to below 1, spreads what many gateways do at the same time: a
// back-off grows by up to half of it. It returns true when the way, or its cluster, is left out from now on.
func (e *Ejections) End(a Attempt, result Result, now time.Time, jitter float64) bool {
	switch result {
	case Connected:
		e.connected(a, now)
		return false
	case Dropped:
		e.drop(a)
		return false
	case Refused:
		if a.Way.Tunnel {
			e.drop(a)
			return e.fail(behind(a.Way), a, result, now, jitter)
		}
	case Lost, Failed, Absent:
	}
	out := e.fail(a.Way, a, result, now, jitter)
	e.drop(a)
	return out
}

func (e *Ejections) connected(a Attempt, now time.Time) {
	e.record(a.Way).sample(now.Sub(a.Started))
	for i, r := range e.subjects(a.Way) {
		if r == nil || r.stale(a) {
			continue
		}
		*r = record{usual: r.usual, spread: r.spread}
		subject := a.Way
		if i == 1 {
			subject = behind(a.Way)
		}
		delete(e.out, subject)
	}
}

// sample notes how long a connection took, as in section 2 of RFC 6298.
func (r *record) sample(took time.Duration) {
	took = max(took, 1)
	if r.usual == 0 {
		r.usual, r.spread = took, took/2
		return
	}
	r.spread += (max(took-r.usual, r.usual-took) - r.spread) / 4
	r.usual += (took - r.usual) / 8
}

// drop ends a trial without a verdict.
func (e *Ejections) drop(a Attempt) {
	for _, r := range e.subjects(a.Way) {
		if r != nil && a.trial && r.trial.Equal(a.Started) {
			r.trial = time.Time{}
		}
	}
}

func (e *Ejections) fail(subject Way, a Attempt, result Result, now time.Time, jitter float64) bool {
	r := e.record(subject)
	if r.stale(a) {
		return false
	}
	if r.losses++; result == Lost && !r.out && r.losses < e.timing.Losses {
		return false
	}
	if r.out && now.Before(r.until) {
		return false // it was tried because nothing else was there; that is no trial
	}
	if result == Absent {
		r.backOff = e.timing.BackOff
	} else {
		r.backOff = min(max(2*r.backOff, e.timing.BackOff), e.timing.MaxBackOff)
	}
	r.out, r.since, r.trial = true, now, time.Time{}
	e.out[subject] = r
	r.until = now.Add(r.backOff + time.Duration(jitter*float64(r.backOff)/2))
	return true
}

// stale tells whether an attempt began before the way was left out.
func (r *record) stale(a Attempt) bool { return r.out && a.Started.Before(r.since) }

func (e *Ejections) record(w Way) *record {
	r := e.ways[w]
	if r == nil {
		r = &record{}
		e.ways[w] = r
	}
	return r
}

// Delay returns after which time a second way should be tried beside this one.
func (e *Ejections) Delay(w Way) time.Duration {
	r := e.ways[w]
	if r == nil || r.usual == 0 {
		return e.timing.FirstDelay
	}
	margin := min(max(4*r.spread, e.timing.Margin), e.timing.MaxMargin)
	return min(max(r.usual+margin, e.timing.MinDelay), e.timing.MaxDelay)
}

// Keep forgets the ways that are in no list of candidates any more.
func (e *Ejections) Keep(priorities [][]Candidate) {
	wanted := make(map[Way]struct{}, len(e.ways))
	for _, candidates := range priorities {
		for _, c := range candidates {
			for w := range c.ways() {
				wanted[w] = struct{}{}
				if w.Tunnel {
					wanted[behind(w)] = struct{}{}
				}
			}
		}
	}
	for w := range e.ways {
		if _, ok := wanted[w]; !ok {
			delete(e.ways, w)
			delete(e.out, w)
		}
	}
}

// Ejected is a way that is left out. One with no address stands for all gateways of its cluster.
type Ejected struct {
	Way
	Until time.Time
}

// Out returns the ways that are left out, or on trial, sorted by cluster and address.
func (e *Ejections) Out() []Ejected {
	var out []Ejected
	for w, r := range e.out {
		out = append(out, Ejected{w, r.until})
	}
	slices.SortFunc(out, func(a, b Ejected) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
	return out
}
