package ads

import (
	"iter"
	"maps"
	"slices"
)

// record is what a client holds of one resource.
type record struct {
	body  *body // nil: nothing
	named bool  // asked for by name
	force bool  // to be sent though it did not change

	acked    bool // the client took body
	rejected bool // the client refused body; it is not sent again
}

// records is what a client holds, by name. A client that has come into step asks for little that is new, so records stand in
// sorted lists, which take a third of what a map takes of memory. What is new goes to a map, and into the lists when there is
// much of it. The zero records is empty.
type records struct {
	names  []string // sorted
	bodies []*body
	marks  []mark
	absent int // entries of the lists that were removed

	recent map[string]record // no name is in both
}

// mark is the rest of a record in the lists.
type mark uint8

const (
	isNamed mark = 1 << iota
	isForced
	isAcked
	isRejected
	isAbsent // there is no such record
)

// manyRecent is how much is new, or removed, at least before the lists are made anew.
const manyRecent = 64

func (r *records) len() int { return len(r.names) - r.absent + len(r.recent) }

// get returns a record, and whether there is one; the zero record if not.
func (r *records) get(name string) (record, bool) {
	if found, ok := r.recent[name]; ok {
		return found, true
	}
	if at, ok := slices.BinarySearch(r.names, name); ok && r.marks[at]&isAbsent == 0 {
		return r.at(at), true
	}
	return record{}, false
}

// of returns a record, the zero one if there is none.
func (r *records) of(name string) record {
	found, _ := r.get(name)
	return found
}

func (r *records) at(at int) record {
	m := r.marks[at]
	return record{body: r.bodies[at], named: m&isNamed != 0, force: m&isForced != 0, acked: m&isAcked != 0, rejected: m&isRejected != 0}
}

func (rec record) mark() mark {
	return isNamed.of(rec.named) | isForced.of(rec.force) | isAcked.of(rec.acked) | isRejected.of(rec.rejected)
}

func (m mark) of(set bool) mark {
	if set {
		return m
	}
	return 0
}

// put adds or replaces a record.
func (r *records) put(name string, rec record) {
	if at, ok := slices.BinarySearch(r.names, name); ok {
		if r.marks[at]&isAbsent != 0 {
			r.absent--
		}
		r.bodies[at], r.marks[at] = rec.body, rec.mark()
		return
	}
	if r.recent == nil {
		r.recent = map[string]record{}
	}
	r.recent[name] = rec
	r.settle()
}

// remove removes a record, if there is one.
func (r *records) remove(name string) {
	if at, ok := slices.BinarySearch(r.names, name); ok {
		if r.marks[at]&isAbsent == 0 {
			r.absent++
		}
		r.bodies[at], r.marks[at] = nil, isAbsent
		r.settle()
		return
	}
	delete(r.recent, name)
}

// all returns all records, in no particular order. They must not change meanwhile.
func (r *records) all() iter.Seq2[string, record] {
	return func(yield func(string, record) bool) {
		for at, name := range r.names {
			if r.marks[at]&isAbsent == 0 && !yield(name, r.at(at)) {
				return
			}
		}
		for name, rec := range r.recent {
			if !yield(name, rec) {
				return
			}
		}
	}
}

// sorted returns the names of all records.
func (r *records) sorted() []string {
	names := make([]string, 0, r.len())
	for name := range r.all() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// settle makes the lists anew if much has changed. It takes the more changes the longer they are, so that a change costs the
// same however many records there are.
func (r *records) settle() {
	if max(len(r.recent), r.absent) < manyRecent+len(r.names)/4 {
		return
	}
	next := records{names: make([]string, 0, r.len()), bodies: make([]*body, 0, r.len()), marks: make([]mark, 0, r.len())}
	fresh := slices.Sorted(maps.Keys(r.recent))
	for at, name := range r.names {
		for len(fresh) > 0 && fresh[0] < name {
			next.add(fresh[0], r.recent[fresh[0]])
			fresh = fresh[1:]
		}
		if r.marks[at]&isAbsent == 0 {
			next.add(name, r.at(at))
		}
	}
	for _, name := range fresh {
		next.add(name, r.recent[name])
	}
	*r = next
}

// add adds a record behind all others.
func (r *records) add(name string, rec record) {
	r.names, r.bodies, r.marks = append(r.names, name), append(r.bodies, rec.body), append(r.marks, rec.mark())
}
