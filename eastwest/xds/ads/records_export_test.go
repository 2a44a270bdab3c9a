package ads

// Records are records.
type Records struct{ of records }

// Record is a record without its body.
type Record struct {
	Held  bool
	Flags uint8 // bits: named, force, acked, rejected
}

// NewRecords returns empty ones.
func NewRecords() *Records { return &Records{} }

func (r Record) record() record {
	rec := record{named: r.Flags&1 != 0, force: r.Flags&2 != 0, acked: r.Flags&4 != 0, rejected: r.Flags&8 != 0}
	if r.Held {
		rec.body = forgotten
	}
	return rec
}

func recordOf(rec record) Record {
	r := Record{Held: rec.body == forgotten}
	for bit, set := range []bool{rec.named, rec.force, rec.acked, rec.rejected} {
		if set {
			r.Flags |= 1 << bit
		}
	}
	return r
}

// Put is put.
func (r *Records) Put(name string, rec Record) { r.of.put(name, rec.record()) }

// Remove is remove.
func (r *Records) Remove(name string) { r.of.remove(name) }

// Get is get.
func (r *Records) Get(name string) (Record, bool) {
	rec, ok := r.of.get(name)
	return recordOf(rec), ok
}

// Len is len.
func (r *Records) Len() int { return r.of.len() }

// All collects all.
func (r *Records) All() map[string]Record {
	all := map[string]Record{}
	for name, rec := range r.of.all() {
		all[name] = recordOf(rec)
	}
	return all
}

// Sorted is sorted.
func (r *Records) Sorted() []string { return r.of.sorted() }

// Recent counts what is in the map, Resting the entries of the lists.
func (r *Records) Recent() int  { return len(r.of.recent) }
func (r *Records) Resting() int { return len(r.of.names) }
