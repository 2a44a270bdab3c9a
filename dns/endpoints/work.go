package endpoints

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// requestTimeout bounds one request to the host cluster.
const requestTimeout = 30 * time.Second

// errTaken says that a DNSEndpoint which somebody else made has the name that a service needs.
var errTaken = errors.New("it is there, and not Hansa's")

func (r *run) work(ctx context.Context) {
	for {
		key, down := r.queue.Get()
		if down {
			return
		}
		r.attempt(ctx, key)
		r.queue.Done(key)
	}
}

func (r *run) attempt(ctx context.Context, key clusterset.Key) {
	err := r.guarded(ctx, key)
	switch {
	case err == nil, ctx.Err() != nil, !r.listed(): // when it is known again what is there, all is looked at
		r.queue.Forget(key)
	case apierrors.IsConflict(err):
		r.queue.AddRateLimited(key)
	default:
		failures.Inc()
		r.complaints.failed(key, err)
		r.queue.AddRateLimited(key)
	}
}

// guarded handles a service. A panic costs the service a retry, not the hub its life.
func (r *run) guarded(ctx context.Context, key clusterset.Key) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("service %s: panic, which is a bug: %v\n%s", key, cause, debug.Stack())
		}
	}()
	return r.handle(ctx, key)
}

// handle brings the DNSEndpoint of a service up to date.
func (r *run) handle(ctx context.Context, key clusterset.Key) error {
	world := r.world()
	if world == nil || !r.listed() {
		return nil // what is missing wakes all when it comes
	}
	plan := Make(For(world, key), r.have(key))
	if plan.Held {
		r.hold(key)
	}
	for _, step := range plan.Steps {
		if err := r.execute(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// have returns what is there of a service.
func (r *run) have(key clusterset.Key) Have {
	have := Have{Hub: r.o.Namespace}
	if namespace := r.namespaces.Get(types.NamespacedName{Name: key.Namespace}); namespace != nil {
		have.Namespace = !leaving(namespace)
	}
	for _, place := range Places(key, r.o.Namespace) {
		if object := r.objects.Get(place); object != nil {
			have.Objects = append(have.Objects, object)
		}
	}
	return have
}

// execute makes one write, and takes in the answer at once.
func (r *run) execute(ctx context.Context, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name := types.NamespacedName{Namespace: step.Object.GetNamespace(), Name: step.Object.GetName()}
	objects := r.o.Client.Resource(Resource).Namespace(name.Namespace)
	var answer *unstructured.Unstructured
	var err error
	switch step.Verb {
	case Create:
		answer, err = objects.Create(ctx, step.Object, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return r.meet(ctx, name)
		}
	case Update:
		answer, err = objects.Update(ctx, step.Object, metav1.UpdateOptions{})
	case Delete:
		uid := step.Object.GetUID()
		err = objects.Delete(ctx, name.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil // it is gone, and its watch is about to say so
		}
	}
	if err != nil {
		return fmt.Errorf("host cluster: %s of DNSEndpoint %s: %w", step.Verb, name, err)
	}
	writes.WithLabelValues(string(step.Verb)).Inc()
	if answer != nil {
		r.objects.Observe(answer)
	}
	return nil
}

// meet goes on after a create met an object that the watch does not show: the hub's, written a moment ago, or somebody
// else's.
func (r *run) meet(ctx context.Context, name types.NamespacedName) error {
	live, err := r.o.Client.Resource(Resource).Namespace(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("host cluster: reading DNSEndpoint %s: %w", name, err)
	}
	if !Ours(live, r.o.Namespace) {
		return fmt.Errorf("host cluster: DNSEndpoint %s: %w: delete it, or give it the label %s=%s", name, errTaken, Label, r.o.Namespace)
	}
	r.objects.Observe(live)
	return apierrors.NewConflict(Resource.GroupResource(), name.Name, errors.New("it came while it was created"))
}
