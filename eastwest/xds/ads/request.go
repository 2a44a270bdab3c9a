package ads

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const wildcardName = "*"

// request is what a client says, whichever way it speaks.
type request struct {
	kind    int
	nonce   string
	refusal string // why the client refused the response called nonce; empty if it did not

	// State of the World: all names, and the version that the client has. There are no names where sum says that they are
	// those of the request before.
	names   []string
	sum     uint64 // of names, see wholeRequest
	version string

	// Delta: what changed about the names, and the versions that the client has when the stream begins.
	subscribe   []string
	unsubscribe []string
	initial     map[string]string
}

// interest is what a request changed about what a session asks for.
type interest struct {
	added    []string
	dropped  []string
	wildcard int // +1 began, -1 ended
}

// request notes what the client says. It returns how the index has to change, and the responses that the request
// answers, of which the last one may be refused. An error ends the stream.
func (s *session) request(v *View, r request, now time.Time) (interest, []response, error) {
	sub := s.subs[r.kind]
	first := sub == nil
	if first {
		sub = &subscription{dirty: map[string]struct{}{}, gone: map[string]uint64{}}
		s.subs[r.kind] = sub
	}
	answered := sub.answer(r, now)
	var change interest
	if s.delta {
		change = s.deltaInterest(sub, r, first)
	} else {
		change = s.wholeInterest(sub, r, first)
	}
	if err := s.within(change); err != nil {
		return interest{}, answered, err
	}
	s.pursue(v, r.kind, sub, change)
	if first && !s.delta {
		sub.resume = r.version
	}
	if first && s.delta && len(r.initial) > 0 {
		sub.initial = r.initial
	}
	return change, answered, nil
}

// answer finds the response that r answers. Clients answer in order, so earlier ones count as answered too.
func (sub *subscription) answer(r request, now time.Time) []response {
	at := slices.IndexFunc(sub.unanswered, func(out response) bool { return out.nonce == r.nonce })
	if r.nonce == "" || at < 0 {
		return nil
	}
	answered := slices.Clone(sub.unanswered[:at+1])
	sub.unanswered = slices.Delete(sub.unanswered, 0, at+1)
	last := answered[at]
	if r.refusal == "" {
		sub.acked = last.version
	}
	for i, out := range answered {
		if refused := i == at && r.refusal != ""; refused {
			sub.refuse(out, r.refusal, now)
			continue
		}
		for _, c := range out.content {
			sub.took(c.name, c.body)
		}
	}
	return answered
}

// refuse notes a NACK. It concerns the resources that the message names, or all of the response if it names none.
func (sub *subscription) refuse(out response, message string, now time.Time) {
	blamed := named(out.content, shorten(message, maxSearched))
	if len(blamed) == 0 {
		blamed = out.content
	}
	n := &NACK{At: now, Version: out.version, Message: shorten(message, maxMessage)}
	for _, c := range blamed {
		n.Resources = append(n.Resources, c.name)
		if r, ok := sub.records.get(c.name); ok && same(r.body, c.body) {
			r.acked, r.rejected = false, true
			sub.records.put(c.name, r)
		}
	}
	sub.lastNACK = n
}

// named returns the items whose names are in a message. One that is there only as a part of another one's name is not:
// many names begin as others do.
func named(content []item, message string) []item {
	var found []item
	byLength := func(a, b item) int { return cmp.Or(cmp.Compare(len(b.name), len(a.name)), cmp.Compare(a.name, b.name)) }
	for _, c := range slices.SortedFunc(slices.Values(content), byLength) {
		if strings.Contains(message, c.name) {
			found = append(found, c)
			message = strings.ReplaceAll(message, c.name, "\x00")
		}
	}
	slices.SortFunc(found, func(a, b item) int { return cmp.Compare(a.name, b.name) })
	return found
}

// wholeInterest compares a complete list of names with what was asked for before.
func (s *session) wholeInterest(sub *subscription, r request, first bool) interest {
	if !first && (r.sum == sub.asked || sub.legacy && len(r.names) == 0) {
		return interest{}
	}
	sub.asked = r.sum
	asked := make(map[string]struct{}, len(r.names))
	for _, name := range r.names {
		asked[name] = struct{}{}
	}
	_, wildcard := asked[wildcardName]
	delete(asked, wildcardName)
	switch {
	case len(r.names) > 0:
		sub.legacy = false
	case first && s.kinds[r.kind].Full:
		sub.legacy = true
	}
	change := interest{wildcard: sub.turn(wildcard || sub.legacy)}
	for name := range asked {
		if !sub.records.of(name).named {
			change.added = append(change.added, name)
		}
	}
	for name, rec := range sub.records.all() {
		if _, ok := asked[name]; rec.named && !ok {
			change.dropped = append(change.dropped, name)
		}
	}
	return change
}

// deltaInterest applies what a delta request adds and drops. Asking again for a name has it sent again.
func (s *session) deltaInterest(sub *subscription, r request, first bool) interest {
	added, dropped := map[string]struct{}{}, map[string]struct{}{}
	for _, name := range r.subscribe {
		added[name] = struct{}{}
	}
	for _, name := range r.unsubscribe {
		if _, both := added[name]; !both {
			dropped[name] = struct{}{}
		}
	}
	wildcard := sub.wildcard
	if first && len(r.subscribe) == 0 && s.kinds[r.kind].Full {
		wildcard = true
	}
	if _, on := added[wildcardName]; on {
		wildcard = true
	}
	if _, off := dropped[wildcardName]; off {
		wildcard = false
	}
	delete(added, wildcardName)
	delete(dropped, wildcardName)
	change := interest{wildcard: sub.turn(wildcard)}
	for name := range added {
		if rec := sub.records.of(name); rec.named {
			rec.force, rec.rejected = true, false // it asks for what it refused
			sub.records.put(name, rec)
			sub.dirty[name] = struct{}{}
			sub.asking = true
			sub.doubt(name)
			continue
		}
		change.added = append(change.added, name)
	}
	for name := range dropped {
		if sub.records.of(name).named {
			change.dropped = append(change.dropped, name)
		}
	}
	return change
}

func (sub *subscription) turn(wildcard bool) int {
	switch {
	case wildcard && !sub.wildcard:
		return 1
	case !wildcard && sub.wildcard:
		return -1
	}
	return 0
}

// within refuses names beyond the limits.
func (s *session) within(change interest) error {
	if total := s.names + len(change.added) - len(change.dropped); total > s.limits.Names {
		return status.Errorf(codes.ResourceExhausted, "asks for %d names; a stream may ask for %d: ask for * or use several streams",
			total, s.limits.Names)
	}
	for _, name := range change.added {
		if len(name) > s.limits.NameBytes {
			return status.Errorf(codes.InvalidArgument, "a resource name has %d bytes; at most %d are allowed: it begins with %q",
				len(name), s.limits.NameBytes, shorten(name, 64))
		}
	}
	return nil
}

// pursue carries a change of interest into the records.
func (s *session) pursue(v *View, kind int, sub *subscription, change interest) {
	sub.wildcard = sub.wildcard && change.wildcard >= 0 || change.wildcard > 0
	s.names += len(change.added) - len(change.dropped)
	sub.named += len(change.added) - len(change.dropped)
	if change.wildcard != 0 || len(change.added)+len(change.dropped) > 0 {
		sub.resume = ""
	}
	for i, name := range change.added {
		name = v.sets[kind].own(name)
		change.added[i] = name
		sub.doubt(name)
		rec := sub.records.of(name)
		rec.named, rec.force = true, true
		sub.records.put(name, rec)
		sub.dirty[name] = struct{}{}
		sub.asking = true
	}
	for _, name := range change.dropped {
		sub.dropName(name, s.delta)
	}
	if change.wildcard < 0 {
		sub.dropRest()
	}
	if change.wildcard > 0 {
		for _, name := range v.sets[kind].names {
			sub.dirty[name] = struct{}{}
		}
		if s.delta {
			sub.expectUnanswered()
		}
	}
	if change.wildcard > 0 || len(change.added) > 0 && s.full(kind) {
		sub.due, sub.asking = true, true
	}
	sub.settle()
}

// expectUnanswered assumes that what is on its way will be held: a client that ends a wildcard and begins it again takes
// in what was sent for the first one.
func (sub *subscription) expectUnanswered() {
	for _, out := range sub.unanswered {
		for _, c := range out.content {
			if rec := sub.records.of(c.name); rec.body == nil {
				rec.body = forgotten
				sub.records.put(c.name, rec)
				sub.dirty[c.name] = struct{}{}
			}
		}
	}
}

// doubt does not believe any more that the client holds what it said when it came.
func (sub *subscription) doubt(name string) {
	if _, said := sub.initial[name]; said {
		sub.initial[name] = ""
	}
}

// dropName ends the interest in one name. Under a wildcard a delta client is told what the wildcard says of it.
func (sub *subscription) dropName(name string, delta bool) {
	rec := sub.records.of(name)
	rec.named = false
	rec.force = delta
	sub.records.put(name, rec)
	if sub.wildcard {
		if rec.body == nil {
			sub.records.remove(name)
		}
		sub.dirty[name] = struct{}{}
		return
	}
	sub.letGo(name)
	delete(sub.dirty, name)
	delete(sub.gone, name)
	delete(sub.initial, name)
}

// dropRest ends the interest in everything that was not asked for by name.
func (sub *subscription) dropRest() {
	for _, name := range sub.records.sorted() {
		if !sub.records.of(name).named {
			sub.letGo(name)
		}
	}
	unnamed := func(name string) bool { return !sub.records.of(name).named }
	maps.DeleteFunc(sub.dirty, func(name string, _ struct{}) bool { return unnamed(name) })
	maps.DeleteFunc(sub.gone, func(name string, _ uint64) bool { return unnamed(name) })
	maps.DeleteFunc(sub.initial, func(name, _ string) bool { return unnamed(name) })
}

func sortedNames[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

func shorten(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes], "") + "…"
}
