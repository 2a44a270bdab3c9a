package cluster

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// Feed keeps the registry in step with KubeFedClusters and their Secrets. It only reads, and so runs on every replica of the
// hub: each probes and watches the members by itself, and a standby that takes over knows them already.
type Feed struct {
	Registry  *Registry
	Client    client.Client // of the host cluster, reading through its cache
	Namespace string        // of the hub

	mu sync.Mutex // from looking at a member until its registration is up to date: older news never comes after newer
}

// live is a runnable that needs no leader.
type live func(context.Context) error

// Start runs it.
func (l live) Start(ctx context.Context) error { return l(ctx) }

// NeedLeaderElection says that it runs on every replica.
func (live) NeedLeaderElection() bool { return false }

// SetupWithManager starts the feed as a controller of the host cluster, and makes the registry live.
func (f *Feed) SetupWithManager(mgr manager.Manager) error {
	if err := mgr.Add(live(f.Registry.Run)); err != nil {
		return fmt.Errorf("setting up the registry of members: %w", err)
	}
	all := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(requestFor(f.Namespace, everyMember))
		return nil
	})
	err := builder.ControllerManagedBy(mgr).
		Named("members").
		For(&corev1b1.KubeFedCluster{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(f.ownersOf)).
		WatchesRawSource(all).
		WithOptions(controller.Options{MaxConcurrentReconciles: 8, NeedLeaderElection: new(false)}).
		Complete(f)
	if err != nil {
		return fmt.Errorf("setting up the feed of members: %w", err)
	}
	return nil
}

// everyMember is the request to register all members, made once at the start. No cluster has an empty name.
const everyMember = ""

func requestFor(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// ownersOf maps a Secret to the clusters that use it.
func (f *Feed) ownersOf(ctx context.Context, secret client.Object) []reconcile.Request {
	var list corev1b1.KubeFedClusterList
	if err := f.Client.List(ctx, &list, client.InNamespace(secret.GetNamespace())); err != nil {
		log.FromContext(ctx).Error(err, "Listing member clusters failed")
		return nil
	}
	var owners []reconcile.Request
	for i := range list.Items {
		if list.Items[i].Spec.SecretRef.Name == secret.GetName() {
			owners = append(owners, requestFor(f.Namespace, list.Items[i].Name))
		}
	}
	return owners
}

// ensureAll registers every member there is, so that the registry is complete.
func (f *Feed) ensureAll(ctx context.Context) error {
	var list corev1b1.KubeFedClusterList
	if err := f.Client.List(ctx, &list, client.InNamespace(f.Namespace)); err != nil {
		return fmt.Errorf("listing member clusters: %w", err)
	}
	for i := range list.Items {
		// It is looked at again: it may have changed, or gone, since it was listed.
		if err := f.sync(ctx, client.ObjectKeyFromObject(&list.Items[i])); err != nil {
			return err
		}
	}
	f.Registry.complete()
	return nil
}

// Reconcile brings the registration of one member up to date.
func (f *Feed) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Name == everyMember {
		return reconcile.Result{}, f.ensureAll(ctx)
	}
	return reconcile.Result{}, f.sync(ctx, request.NamespacedName)
}

// sync brings the registration of one member up to date.
func (f *Feed) sync(ctx context.Context, name types.NamespacedName) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kfc corev1b1.KubeFedCluster
	if err := f.Client.Get(ctx, name, &kfc); err != nil {
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading KubeFedCluster %q: %w", name.Name, err)
		}
		f.Registry.remove(name.Name)
		forgetMember(name.Name)
		return nil
	}
	return f.ensure(ctx, &kfc)
}

// ensure registers a member, or forgets one that is being deleted.
func (f *Feed) ensure(ctx context.Context, kfc *corev1b1.KubeFedCluster) error {
	if !kfc.DeletionTimestamp.IsZero() {
		f.Registry.remove(kfc.Name)
		return nil
	}
	secret, err := secretOf(ctx, f.Client, kfc)
	if err != nil {
		return err
	}
	return f.Registry.ensure(ctx, kfc, secret)
}

// secretOf returns the Secret with a member's token, nil when there is none.
func secretOf(ctx context.Context, host client.Client, kfc *corev1b1.KubeFedCluster) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := host.Get(ctx, types.NamespacedName{Namespace: kfc.Namespace, Name: kfc.Spec.SecretRef.Name}, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // an absent Secret is an ordinary answer here
	case err != nil:
		return nil, fmt.Errorf("reading the Secret of cluster %q: %w", kfc.Name, err)
	}
	return &secret, nil
}
