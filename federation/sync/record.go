package sync

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

// firstFailures is how long failures that may be about order alone (a namespace that is just being made) are retried
// before they are reported.
const firstFailures = time.Second

// record is what the lanes know together of one object. Keys are the target's name in the members.
type record struct {
	seq       uint64 // grows with every change of want
	want      *plan.Want
	reason    status.Reason
	hashes    hashes
	source    source
	changedAt time.Time
	relevant  map[string]bool // clusters that have to answer
	outcomes  map[string]outcome
	warned    map[string]string // by subject (a cluster, or a part of the spec): what events were sent for
}

// hashes are KubeFed's versions of template and overrides.
type hashes struct{ template, overrides string }

// outcome is what became of one object in one cluster.
type outcome struct {
	seq       uint64
	code      status.Code
	message   string
	version   string
	hashes    hashes // that version was written with
	remote    any
	report    bool
	gone      bool // nothing of ours is left in the cluster
	wrote     bool // since the last status
	uncertain bool // a create may have succeeded without an answer
	pending   bool // no answer yet
}

// task is what a dispatcher gets to know of one object.
type task struct {
	want      *plan.Want
	seq       uint64
	recorded  string // version recorded for the cluster with the current template and overrides
	uncertain bool
	hashes    hashes
	seen      bool // the member answers and its objects are known
}

// ask returns what is wanted of an object. ok is false when nothing is known of it yet (the hub lane is told) or when
// it is on hold.
func (r *Reconciler) ask(d *Dispatcher, key types.NamespacedName) (t task, ok bool) {
	r.mu.Lock()
	rec := r.records[key]
	if rec == nil {
		r.mu.Unlock()
		r.hub.add(key)
		return t, false
	}
	defer r.mu.Unlock()
	if rec.want == nil {
		return t, false
	}
	rec.relevant[d.name] = true
	t = task{want: rec.want, seq: rec.seq, hashes: rec.hashes}
	last, had := rec.outcomes[d.name]
	t.uncertain = had && last.uncertain
	if had && last.version != "" && last.hashes == rec.hashes {
		t.recorded = last.version
		return t, true
	}
	if rec.want.Object != nil {
		t.recorded = r.host.recorded(r.kind, r.federatedKey(key), rec.hashes, d.name)
	}
	return t, true
}

// settle takes in the answer of a dispatcher and tells the status lane once all have answered.
func (r *Reconciler) settle(d *Dispatcher, key types.NamespacedName, t task, out outcome, v verdict) {
	r.mu.Lock()
	rec := r.records[key]
	if rec == nil || rec.want == nil || r.dispatchers[d.name] != d {
		r.mu.Unlock()
		return
	}
	if v.retry && out.code.Recoverable() && time.Since(rec.changedAt) < firstFailures {
		out.pending = true
	}
	rec.take(d.name, t, out)
	complete := rec.complete()
	r.mu.Unlock()
	if !out.pending && out.message != "" && aboutObject(out.code) {
		if fed := r.feds.Get(r.federatedKey(key)); fed != nil {
			r.warn(key, fed, d.name, string(out.code), out.message)
		}
	}
	if complete {
		r.done.add(key)
	} else {
		r.done.queue.AddAfter(key, patience)
	}
}

// take stores the answer of one cluster to a task. What was written since the last status, and whether a create is
// still in doubt, outlive an answer that is none.
func (rec *record) take(name string, t task, out outcome) {
	before := rec.outcomes[name]
	out.seq, out.hashes = t.seq, t.hashes
	out.wrote = out.wrote || before.wrote
	switch {
	case out.pending:
		before.uncertain = before.uncertain || out.uncertain
		before.wrote = out.wrote
		rec.outcomes[name] = before
		return
	case out.gone:
		delete(rec.outcomes, name)
		if rec.seq == t.seq {
			delete(rec.relevant, name)
		}
	default:
		rec.outcomes[name] = out
	}
	if out.code == status.OK {
		delete(rec.warned, name)
	}
}

// aboutObject reports whether a code tells of the object itself and so deserves an event. What is wrong with a whole
// cluster stands in its KubeFedCluster, or in the FederatedTypeConfig, and would be said once per object.
func aboutObject(code status.Code) bool {
	switch code {
	case status.OK, status.WaitingForRemoval, status.ClusterNotReady, status.CachedRetrievalFailed, status.ClientRetrievalFailed:
		return false
	default:
		return true
	}
}

// complete reports whether every cluster concerned has answered to the current want.
func (rec *record) complete() bool {
	for name := range rec.relevant {
		if out, ok := rec.outcomes[name]; !ok || out.seq != rec.seq {
			return false
		}
	}
	return true
}

// warn sends an event about a federated object, once per subject (a cluster or a part of the spec) until its reason
// changes or the subject is well again.
func (r *Reconciler) warn(key types.NamespacedName, fed *unstructured.Unstructured, subject, reason, message string) {
	r.mu.Lock()
	rec := r.recordFor(key)
	again := rec.warned[subject] == reason
	rec.warned[subject] = reason
	member := ""
	if r.dispatchers[subject] != nil {
		member = subject
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.host.Recorder.Warn(fed, member, reason, message)
}
