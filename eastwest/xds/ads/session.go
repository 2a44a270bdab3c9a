package ads

import (
	"slices"
	"strconv"
	"time"
)

// session is what a server knows of one stream: what its client asked for, was sent, and said about it. It decides and
// does nothing else; the time is an argument. Its view's lock guards it.
type session struct {
	kinds  kinds
	delta  bool
	limits Limits
	subs   []*subscription // by kind; nil until asked for
	names  int             // asked for by name, in all
	number uint64          // of the latest response
}

// subscription is the part of a session that concerns one kind.
type subscription struct {
	wildcard bool
	legacy   bool    // the wildcard came from an empty first request; names end it
	named    int     // asked for by name
	records  records // what was asked for by name, or sent because of the wildcard

	// What is to be done. dirty are names to look at: what there is to say about them is found out when it is said, so
	// that however often a name changes it is one entry.
	dirty   map[string]struct{}
	grown   int               // the most that was seen in dirty
	gone    map[string]uint64 // held back removals: the response that must be answered before; 0: not known yet
	due     bool              // an answer is due even if there is nothing new to say
	asking  bool              // the client asked for something since the latest response
	since   time.Time         // when the oldest change in dirty was published; zero: the client asked
	goneAt  time.Time         // the same for gone
	resume  string            // the version that a State-of-the-World client began with
	initial map[string]string // the versions that a delta client began with

	asked      uint64 // the sum of the latest names in State of the World
	told       digest // of what the client holds
	sentAt     time.Time
	held       bool   // something new had to wait since the latest response
	streak     int    // how many responses before it had to wait too, at most maxStreak
	version    string // of the latest response
	acked      string // the latest version that the client took
	unanswered []response
	lastNACK   *NACK
}

// response is one that was sent and that the client did not answer yet.
type response struct {
	number  uint64
	nonce   string
	version string
	at      time.Time
	since   time.Time
	content []item
	removed []string
}

// item is a resource in a response.
type item struct {
	name string
	body *body
}

// outgoing is a response to be sent.
type outgoing struct {
	response
	kind  int
	items []item // all that the message holds; content is what is new of it
}

func newSession(ks kinds, delta bool, limits Limits) *session {
	return &session{kinds: ks, delta: delta, limits: limits, subs: make([]*subscription, len(ks))}
}

// full tells whether responses of a kind hold everything.
func (s *session) full(kind int) bool { return !s.delta && s.kinds[kind].Full }

// mark notes that a name changed. The zero time is for what is no news.
func (s *session) mark(kind int, name string, at time.Time) {
	sub := s.subs[kind]
	sub.dirty[name] = struct{}{}
	sub.since = earlier(sub.since, at)
}

// next returns what to send now. If that is nothing, it returns when to ask again without a cause; zero is never.
//
// What is new goes first, in the order of the kinds. A removal waits until the client has answered everything that was
// new when the removal became known: until then it may use what is to be removed.
func (s *session) next(v *View, now time.Time) (*outgoing, time.Time) {
	var retry time.Time
	if !v.ready {
		return nil, retry
	}
	blocked := false
	for kind, sub := range s.subs {
		if sub == nil || !sub.waiting() {
			continue
		}
		if open, at := sub.open(now, s.limits, s.rest(sub)); !open {
			blocked, sub.held = true, true
			retry = earlier(retry, at)
			continue
		}
		if out := s.bring(v, kind, now); out != nil {
			return out, retry
		}
	}
	for kind, sub := range slices.Backward(s.subs) {
		if sub == nil || len(sub.gone) == 0 {
			continue
		}
		if !blocked {
			sub.holdUntil(s.number)
		}
		if names := sub.released(s.unansweredSince()); len(names) > 0 && len(sub.unanswered) < s.limits.Unanswered {
			return s.take(v, kind, names, now), retry
		}
	}
	return nil, retry
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (sub *subscription) waiting() bool {
	return len(sub.dirty) > 0 || sub.due || sub.resume != "" || sub.initial != nil
}

// rest is how long a client is left alone after a response, so that a burst of changes becomes few responses: the longer
// it goes on, the longer. In State of the World both sides pay for every name each time.
func (s *session) rest(sub *subscription) time.Duration {
	rest := s.limits.Rest
	if !s.delta {
		rest *= 1 + time.Duration(sub.records.len()/restNames)
	}
	return min(rest<<max(0, sub.streak-freeStreak), s.limits.MaxRest)
}

// open tells whether another response may go out. What the client asked for and the first change go at once. After that
// a client that answers at once gets one response at a time, and one that is far away gets some before it answers.
func (sub *subscription) open(now time.Time, limits Limits, rest time.Duration) (bool, time.Time) {
	pending := len(sub.unanswered)
	if pending == 0 {
		at := sub.sentAt.Add(rest)
		return sub.asking || !now.Before(at), at
	}
	if pending >= limits.Unanswered {
		return false, time.Time{}
	}
	at := sub.unanswered[pending-1].at.Add(limits.Pace)
	return !now.Before(at), at
}

// holdUntil lets removals that nothing new precedes any more wait for what was sent so far.
func (sub *subscription) holdUntil(number uint64) {
	for name, barrier := range sub.gone {
		if barrier == 0 {
			sub.gone[name] = number + 1
		}
	}
}

// released returns the removals that may go out when the response called first is the oldest without an answer.
func (sub *subscription) released(first uint64) []string {
	var names []string
	for name, barrier := range sub.gone {
		if barrier != 0 && barrier <= first {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unansweredSince returns the number of the oldest response without an answer, or the next number.
func (s *session) unansweredSince() uint64 {
	first := s.number + 1
	for _, sub := range s.subs {
		if sub != nil && len(sub.unanswered) > 0 {
			first = min(first, sub.unanswered[0].number)
		}
	}
	return first
}

// bring composes a response with what is new of a kind, or nil if there turns out to be nothing to say.
func (s *session) bring(v *View, kind int, now time.Time) *outgoing {
	sub, set := s.subs[kind], &v.sets[kind]
	sub.adopt(set)
	content, absent := s.look(kind, set)
	if len(content)+len(absent) == 0 && !sub.due {
		sub.settle()
		return nil
	}
	sub.due, sub.asking = false, false
	out := &outgoing{kind: kind, items: content}
	out.content, out.removed = content, absent
	if s.full(kind) {
		out.items = sub.everything(set)
	}
	s.warm(kind, content)
	for _, c := range content {
		sub.hold(c.name, c.body)
	}
	out.since = sub.since
	s.seal(v, out, now)
	sub.settle()
	return out
}

// settle forgets how old the oldest change is when none is left.
func (sub *subscription) settle() {
	if len(sub.dirty) == 0 {
		sub.since = time.Time{}
		if sub.grown > manyDirty {
			sub.dirty, sub.grown = map[string]struct{}{}, 0 // a map never shrinks, and that of the first request is a third of a session
		}
	}
	if len(sub.gone) == 0 {
		sub.goneAt = time.Time{}
	}
}

// look takes names from dirty, as many as fit into a response, and returns those to be sent and those to be reported
// absent at once. What the client holds and is not there any more goes to gone.
func (s *session) look(kind int, set *set) (content []item, absent []string) {
	sub := s.subs[kind]
	size := 0
	sub.grown = max(sub.grown, len(sub.dirty))
	for _, name := range sortedNames(sub.dirty) {
		if size > s.limits.ResponseBytes && !s.full(kind) {
			break
		}
		delete(sub.dirty, name)
		r, known := sub.records.get(name)
		if !known && !sub.wildcard {
			continue
		}
		current := set.bodies[name]
		switch {
		case current != nil:
			delete(sub.gone, name)
			if r.wants(current) {
				content = append(content, item{name, current})
				size += len(name) + len(current.any.GetValue())
			}
		case r.body != nil && (s.delta || s.kinds[kind].Full):
			sub.miss(name)
		case r.body == nil && s.delta && r.force:
			absent = append(absent, name)
		}
		if r.force {
			r.force = false
			sub.records.put(name, r)
		}
	}
	return content, absent
}

// miss notes that what the client holds is not there any more.
func (sub *subscription) miss(name string) {
	if _, held := sub.gone[name]; held {
		return
	}
	sub.gone[name] = 0
	if sub.goneAt.IsZero() {
		sub.goneAt = sub.since
	}
}

// wants tells whether a client that holds r is to be sent b.
func (r record) wants(b *body) bool {
	return !same(r.body, b) || r.force && !r.rejected
}

// everything returns all that the client asked for and that exists, and what it is not to lose yet.
func (sub *subscription) everything(set *set) []item {
	names := set.names
	if !sub.wildcard {
		names = sub.records.sorted()
	}
	items := make([]item, 0, len(names)+len(sub.gone))
	for _, name := range names {
		if b := set.bodies[name]; b != nil {
			items = append(items, item{name, b})
		} else if _, held := sub.gone[name]; held {
			items = append(items, item{name, sub.records.of(name).body})
		}
	}
	if sub.wildcard {
		for _, name := range sortedNames(sub.gone) {
			items = append(items, item{name, sub.records.of(name).body})
		}
	}
	return items
}

// take composes the removal of names.
func (s *session) take(v *View, kind int, names []string, now time.Time) *outgoing {
	sub := s.subs[kind]
	for _, name := range names {
		delete(sub.gone, name)
		sub.letGo(name)
	}
	out := &outgoing{kind: kind}
	out.removed = names
	if s.full(kind) {
		out.items = sub.everything(&v.sets[kind])
	}
	out.since = sub.goneAt
	s.seal(v, out, now)
	sub.settle()
	return out
}

// seal fills in what identifies a response, and notes that it waits for an answer.
func (s *session) seal(v *View, out *outgoing, now time.Time) {
	sub := s.subs[out.kind]
	s.number++
	out.number = s.number
	out.nonce = strconv.FormatUint(v.sequence, 10) + "." + strconv.FormatUint(s.number, 10)
	out.version = sub.told.String()
	out.at = now
	sub.sentAt = now
	if sub.held {
		sub.held, sub.streak = false, min(sub.streak+1, maxStreak)
	} else {
		sub.streak = 0
	}
	sub.version = out.version
	sub.unanswered = append(sub.unanswered, out.response)
}

// warm has resources that depend on changed ones sent again.
func (s *session) warm(kind int, content []item) {
	warmed := s.kinds.find(s.kinds[kind].Warms)
	if warmed < 0 || s.subs[warmed] == nil {
		return
	}
	other := s.subs[warmed]
	for _, c := range content {
		r, ok := other.records.get(c.name)
		if !ok || r.body == nil || s.subs[kind].records.of(c.name).body == nil {
			continue
		}
		r.force = true
		other.records.put(c.name, r)
		other.dirty[c.name] = struct{}{}
	}
}

// hold notes that the client was sent b.
func (sub *subscription) hold(name string, b *body) {
	r := sub.records.of(name)
	if !same(r.body, b) {
		if r.body != nil && r.body != forgotten {
			sub.told = sub.told.minus(name, r.body)
		}
		sub.told = sub.told.plus(name, b)
		r.acked, r.rejected = false, false
	}
	r.body = b
	sub.records.put(name, r)
}

// letGo notes that the client does not hold name any more.
func (sub *subscription) letGo(name string) {
	r := sub.records.of(name)
	if r.body != nil && r.body != forgotten {
		sub.told = sub.told.minus(name, r.body)
	}
	if !r.named {
		sub.records.remove(name)
		return
	}
	sub.records.put(name, record{named: true})
}

// adopt takes over what the client held when it came, now that the view is known.
func (sub *subscription) adopt(set *set) {
	if sub.resume != "" {
		// Only the wildcard of an empty request says what the client holds: with names it may have dropped something and
		// asked for it again.
		if sub.legacy && sub.resume == set.digest.String() {
			for _, name := range set.names {
				sub.hold(name, set.bodies[name])
			}
			clear(sub.dirty)
			sub.due, sub.version, sub.acked = false, sub.resume, sub.resume
		}
		sub.resume = ""
	}
	for name, version := range sub.initial {
		r, known := sub.records.get(name)
		if !known && !sub.wildcard {
			continue
		}
		r.force = false
		sub.records.put(name, r)
		if b := set.bodies[name]; b != nil && b.version == version {
			sub.hold(name, b)
			sub.took(name, b)
			continue
		}
		r.body = forgotten
		sub.records.put(name, r)
		sub.dirty[name] = struct{}{}
	}
	sub.initial = nil
}

// took notes that the client accepted b.
func (sub *subscription) took(name string, b *body) {
	if r, ok := sub.records.get(name); ok && same(r.body, b) {
		r.acked, r.rejected = true, false
		sub.records.put(name, r)
	}
}
