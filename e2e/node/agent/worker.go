package agent

import (
	"cmp"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/hansa-dev/hansa/e2e/node/lifecycle"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// worker runs one pod.
type worker struct {
	agent *Agent
	key   struct{ namespace, name string }
	dir   string // of the pod's volumes and logs
	mail  *mailbox
	gone  chan struct{} // closed when nothing of the pod is left

	// Of the goroutine in run only.
	pod       *lifecycle.Pod
	instances []*instance // by container; nil if it does not run
	volumes   *volumes
	network   *os.File
	device    string
	address   netip.Addr
	deadline  time.Time     // when what is left is killed, once the pod is terminating
	grace     time.Duration // given to the pod's containers when it is
	setup     retry
	delayed   map[int]int // restarts of containers for which a back-off has been announced
	sidecars  bool        // have been told to end

	mu     sync.Mutex
	object *corev1.Pod // with the last status that was published; never changed, only replaced
	shown  []view
	netns  *os.File // as network
}

// view is what others may know about a container.
type view struct {
	name     string
	restarts int
	idle     bool
	current  *instance // nil if it does not run
	last     *instance // the one that ran last, or runs
}

func newWorker(a *Agent, pod *corev1.Pod) *worker {
	w := &worker{
		agent: a, mail: newMailbox(), gone: make(chan struct{}),
		dir:     filepath.Join(a.config.StateDir, "pods", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID)),
		pod:     lifecycle.NewPod(pod, a.config.Address.String(), time.Now()),
		delayed: map[int]int{},
		object:  pod,
	}
	w.key.namespace, w.key.name = pod.Namespace, pod.Name
	w.instances = make([]*instance, len(w.pod.Containers))
	w.shown = make([]view, len(w.pod.Containers))
	for i := range w.pod.Containers {
		w.shown[i].name = w.pod.Containers[i].Spec.Name
	}
	return w
}

func (w *worker) names(namespace, name string) bool {
	return w.key.namespace == namespace && w.key.name == name
}

func sortWorkers(workers []*worker) {
	slices.SortFunc(workers, func(a, b *worker) int {
		return cmp.Or(cmp.Compare(a.key.namespace, b.key.namespace), cmp.Compare(a.key.name, b.key.name))
	})
}

// post has the worker call f; it does not wait for that.
func (w *worker) post(f func()) { w.mail.post(f) }

// published returns the pod as it was last reported.
func (w *worker) published() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.object.DeepCopy()
}

// update tells the worker about a change of the Pod object.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	known := w.object.Status
	w.object = pod.DeepCopy()
	w.object.Status = known
	w.mu.Unlock()
	w.post(func() { w.adopt(pod) })
}

// terminate tells the worker to end the pod, or to hurry.
func (w *worker) terminate(grace time.Duration) {
	until := time.Now().Add(grace)
	w.post(func() {
		if w.pod.Terminating && !until.Before(w.deadline) {
			return
		}
		w.pod.Terminating, w.deadline, w.grace = true, until, grace
		w.stopAll(grace)
	})
}

// retry is a pause between attempts that doubles.
type retry struct {
	pause time.Duration
	at    time.Time
	since time.Time
}

// Pauses between attempts to set a pod up. What is missing is often just being made, hence the short first one.
const (
	firstPause = 50 * time.Millisecond
	longPause  = 10 * time.Second
)

func (r *retry) failed(now time.Time) {
	if r.since.IsZero() {
		r.since = now
	}
	r.pause = min(max(2*r.pause, firstPause), longPause)
	r.at = now.Add(r.pause)
}

// refreshInterval is how often volumes are compared with what they show.
const refreshInterval = 10 * time.Second

// run works for the pod until nothing is left of it.
func (w *worker) run(ctx context.Context) {
	defer close(w.gone)
	refresh := time.NewTicker(refreshInterval)
	defer refresh.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.abandon()
			return
		case <-w.mail.arrived:
			for _, f := range w.mail.take() {
				f()
			}
		case <-refresh.C:
			w.refresh(ctx)
		case <-timer.C:
		}
		wake := w.advance(ctx)
		if w.pod.Terminating && w.pod.Finished() {
			w.finish(ctx)
			return
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(0, time.Until(wake)))
		}
	}
}

// advance does what is to be done now, publishes the status, and returns when there is more to do.
func (w *worker) advance(ctx context.Context) time.Time {
	now := time.Now()
	if w.pod.IP == "" && !w.pod.Terminating && w.pod.Failure == nil {
		if now.Before(w.setup.at) {
			return w.setup.at
		}
		if err := w.prepare(ctx); err != nil {
			w.setup.failed(time.Now())
			w.complainSetup(err)
			w.publish()
			return w.setup.at
		}
	}
	if w.pod.Failure == nil && !w.pod.Terminating && w.pod.Expired(now) {
		w.pod.Failure = &lifecycle.Failure{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
		w.event(corev1.EventTypeNormal, "DeadlineExceeded", "%s", w.pod.Failure.Message)
		w.stopAll(w.podGrace())
	}
	w.publish() // what has ended is shown before it is started again
	step := w.pod.Next(now)
	for len(step.Start) > 0 {
		for _, i := range step.Start {
			w.start(ctx, i)
		}
		step = w.pod.Next(time.Now())
	}
	w.announceDelays(step.Delayed)
	for _, i := range step.Stop {
		w.stop(i, w.podGrace(), "")
	}
	w.stopSidecars()
	w.publish()
	return step.Wake
}

// stopSidecars ends the sidecars of a pod that is ending when its other containers have.
func (w *worker) stopSidecars() {
	if !w.pod.Terminating && w.pod.Failure == nil || w.sidecars {
		return
	}
	for i := range w.pod.Containers {
		if c := &w.pod.Containers[i]; c.Kind != lifecycle.Sidecar && c.Running != nil {
			return
		}
	}
	w.sidecars = true
	grace := max(0, time.Until(w.deadline))
	for i := range w.pod.Containers {
		if w.pod.Containers[i].Running != nil {
			w.stop(i, grace, "")
		}
	}
}

// publish reports the status if it has changed.
func (w *worker) publish() {
	w.mu.Lock()
	before := w.object.Status
	status := w.pod.Status(before, time.Now())
	for i := range w.shown {
		w.shown[i].restarts, w.shown[i].idle = w.pod.Containers[i].Restarts, w.pod.Containers[i].Idle
		w.shown[i].current = w.instances[i]
		if w.instances[i] != nil {
			w.shown[i].last = w.instances[i]
		}
	}
	if equality.Semantic.DeepEqual(before, status) {
		w.mu.Unlock()
		return
	}
	object := w.object.DeepCopy()
	object.Status = status
	w.object = object
	w.mu.Unlock()
	w.agent.report(object)
}

// conditions takes over the conditions of the pod that others have set.
func (w *worker) conditions(conditions []corev1.PodCondition) {
	w.mu.Lock()
	object := w.object.DeepCopy()
	object.Status.Conditions = mergeConditions(object.Status.Conditions, conditions)
	w.object = object
	w.mu.Unlock()
}

// finish removes what is left of a pod whose processes have ended, the Pod object last.
func (w *worker) finish(ctx context.Context) {
	w.publish()
	w.clean()
	pod := w.published()
	w.agent.forget(pod.UID, w.address)
	w.agent.remove(ctx, pod)
}

// abandon ends the pod's processes because the node ends. The Pod object stays: the pod may go on when the node is back.
func (w *worker) abandon() {
	for _, in := range w.instances {
		if in != nil {
			in.kill()
		}
	}
	w.disconnect()
}

// clean removes the pod's network and files.
func (w *worker) clean() {
	w.disconnect()
	if err := os.RemoveAll(w.dir); err != nil {
		w.agent.log.Error("cannot remove the files of a pod", "pod", w.key, "error", err)
	}
}

func (w *worker) disconnect() {
	if w.device == "" {
		return
	}
	if err := sandbox.Disconnect(w.device); err != nil {
		w.agent.log.Error("cannot disconnect a pod", "pod", w.key, "error", err)
	}
	w.mu.Lock()
	_ = w.network.Close()
	w.netns = nil
	w.mu.Unlock()
	w.device = ""
}

func (w *worker) podGrace() time.Duration {
	const usual = 30 * time.Second
	if seconds := w.pod.Object.Spec.TerminationGracePeriodSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return usual
}

// event makes an event of the pod; any goroutine may call it.
func (w *worker) event(kind, reason, format string, args ...any) {
	w.mu.Lock()
	pod := w.object
	w.mu.Unlock()
	w.agent.events.Eventf(pod, kind, reason, format, args...)
}

// adopt takes over a changed Pod object. Containers whose image has changed are started anew.
func (w *worker) adopt(pod *corev1.Pod) {
	for _, i := range w.pod.Adopt(pod) {
		w.stop(i, w.podGrace(), "Container "+w.pod.Containers[i].Spec.Name+" definition changed, will be restarted")
	}
}
