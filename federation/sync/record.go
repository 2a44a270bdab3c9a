package sync

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

const (
	// firstFailures is how long failures that may be about order alone (a namespace that is just being made) are
	// retried before they are reported.
	firstFailures = time.Second
	// contested is how many updates of one object in a row, each within contestedPause of the one before, are taken for
	// a fight with somebody in the member. From then on each waits twice as long as the last, up to contestedMax.
	contested      = 20
	contestedPause = time.Second
	contestedFirst = 50 * time.Millisecond
	contestedMax   = 30 * time.Second
)

// record is what the lanes know together of one object. Keys are the target's name in the members.
type record struct {
	seq       uint64 // another one for every change of want, over all records of a Reconciler
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
	seq     uint64
	code    status.Code
	message string
	cause   metav1.StatusReason // of a failure, as the API server gave it
	remote  any
	report  bool
	gone    bool // nothing of ours is left in the cluster
	wrote   bool // since the last status
	pending bool // no answer yet

	// Of the object when it was last written or found as recorded.
	version string
	hashes  hashes // that version was written with
	uid     types.UID
	labels  map[string]string

	updatedAt time.Time // when it was last updated
	updates   int       // in a row, each soon after the one before
}

// of notes version, identity and labels of an object.
func (o outcome) of(obj *unstructured.Unstructured) outcome {
	o.version, o.uid, o.labels = plan.Version(obj), obj.GetUID(), obj.GetLabels()
	return o
}

// task is what a dispatcher gets to know of one object.
type task struct {
	want     *plan.Want
	seq      uint64
	hashes   hashes
	recorded string // version recorded for the cluster with the current template and overrides
	last     outcome
	seen     bool // the member answers and its objects are known
}

// brake returns how long to wait before the next update, because somebody in the member keeps changing the object.
func (t task) brake(now time.Time) time.Duration {
	if t.last.updates < contested {
		return 0
	}
	pause := min(contestedFirst<<min(t.last.updates-contested, 16), contestedMax)
	return pause - now.Sub(t.last.updatedAt)
}

// ask returns what is wanted of an object. ok is false when nothing is known of it yet (the hub lane is told), when it is
// on hold, or when the dispatcher has been replaced.
func (r *Reconciler) ask(d *Dispatcher, key types.NamespacedName) (t task, ok bool) {
	r.mu.Lock()
	rec := r.records[key]
	if rec == nil {
		r.mu.Unlock()
		r.hub.add(key)
		return t, false
	}
	defer r.mu.Unlock()
	if rec.want == nil || r.dispatchers[d.name] != d {
		return t, false
	}
	rec.relevant[d.name] = true
	t = task{want: rec.want, seq: rec.seq, hashes: rec.hashes, last: rec.outcomes[d.name]}
	switch {
	case t.last.version != "" && t.last.hashes == rec.hashes:
		t.recorded = t.last.version
	case rec.want.Object != nil:
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
		r.hub.add(key)
		return
	}
	if v.retry && out.code.Recoverable() && time.Since(rec.changedAt) < firstFailures {
		out.pending = true
	}
	rec.take(d.name, t, out)
	fighting := rec.outcomes[d.name].updates == contested
	next := r.done
	if rec.departed() {
		next = r.out
	}
	complete := rec.complete()
	r.mu.Unlock()
	if !out.pending && out.message != "" && aboutObject(out.code) {
		r.tell(key, d.name, string(out.code), out.message)
	}
	if fighting {
		r.tell(key, d.name, "Contested", fmt.Sprintf(
			"%s %q is changed in cluster %q again and again after the hub has put it right; find out by whom, or leave the field to it. The hub repairs it less and less often.",
			r.kind.target.GVK.Kind, display(key), d.name))
	}
	if complete {
		next.add(key)
	} else {
		next.queue.AddAfter(key, patience)
	}
}

// take stores the answer of one cluster to a task. What was written since the last status outlives an answer that is
// none; a message that stands is kept while its code and cause do, since details of a failure vary.
func (rec *record) take(name string, t task, out outcome) {
	before := rec.outcomes[name]
	out.seq, out.hashes = t.seq, t.hashes
	out.wrote = out.wrote || before.wrote
	switch {
	case out.pending:
		before.wrote = out.wrote
		rec.outcomes[name] = before
		return
	case out.gone:
		delete(rec.outcomes, name)
		if rec.seq == t.seq {
			delete(rec.relevant, name)
		}
	default:
		if before.seq == out.seq && before.code == out.code && before.cause == out.cause {
			out.message = before.message
		}
		if out.version == "" && before.hashes == out.hashes { // a failure does not undo what was known
			out.version, out.uid, out.labels = before.version, before.uid, before.labels
		}
		rec.outcomes[name] = out.after(before)
	}
	if out.code == status.OK {
		if rec.warned[name] != "Contested" || out.updates < contested {
			delete(rec.warned, name)
		}
	}
}

// after counts updates that follow each other closely.
func (o outcome) after(before outcome) outcome {
	switch {
	case o.updatedAt.IsZero():
		o.updatedAt, o.updates = before.updatedAt, before.updates
	case o.seq == before.seq && o.updatedAt.Sub(before.updatedAt) < max(contestedPause, 2*task{last: before}.brake(before.updatedAt)):
		o.updates = before.updates + 1
	default:
		o.updates = 1
	}
	return o
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

// departed reports whether a federated object is to go and no cluster has anything of it any more.
func (rec *record) departed() bool {
	return rec.want.Mode != plan.Sync && rec.want.Object != nil && len(rec.relevant) == 0
}

// tell warns about what happened in a cluster, if there still is a federated object to warn about.
func (r *Reconciler) tell(key types.NamespacedName, member, reason, message string) {
	if fed := r.feds.Get(r.federatedKey(key)); fed != nil {
		r.warn(key, fed, member, reason, message)
	}
}

// warn sends an event about a federated object, once per subject (a cluster or a part of the spec) until its reason
// changes or the subject is well again.
func (r *Reconciler) warn(key types.NamespacedName, fed *unstructured.Unstructured, subject, reason, message string) {
	r.mu.Lock()
	rec := r.records[key]
	if rec == nil || rec.warned[subject] == reason {
		r.mu.Unlock()
		return
	}
	rec.warned[subject] = reason
	member := ""
	if r.dispatchers[subject] != nil {
		member = subject
	}
	r.mu.Unlock()
	r.host.Recorder.Warn(fed, member, reason, message)
}
