package federated

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// The FederatedTypeConfigs of services and of their exports.
const (
	servicesConfig = "services"
	exportsConfig  = "serviceexports." + api.MCSGroup
)

// Reasons of events about a FederatedService.
const (
	ReasonExportsNotEnabled = "ExportsNotEnabled"
	ReasonExportNotOurs     = "ExportNotOurs"
	ReasonExportNotClear    = "ExportNotClear"
)

// untilServed is how long to wait for the definition of a federated kind that the type engine is about to create.
const untilServed = 2 * time.Second

// Recorder sends Warning events about an object. member is empty for what concerns no single member.
type Recorder interface {
	Warn(object runtime.Object, member, reason, message string)
}

// Controller makes FederatedServiceExports on the leader.
type Controller struct {
	Client    client.Client // of the host cluster
	Recorder  Recorder
	Namespace string // of the hub

	// watch begins to watch a federated kind, once.
	watch func(kinds) error
}

// Request names what to look at: a FederatedService, or the types when Types is set.
type Request struct {
	Types   bool
	Service types.NamespacedName
}

// kinds are the federated kinds in use. Those of types that are not enabled are empty.
type kinds struct{ services, exports schema.GroupVersionKind }

// SetupWithManager starts the controller with a manager of the host cluster. The federated kinds need not exist: they
// are watched once their types are enabled.
func (c *Controller) SetupWithManager(mgr manager.Manager) error {
	run, err := controller.NewTyped("federated-serviceexport", mgr, controller.TypedOptions[Request]{Reconciler: c})
	if err != nil {
		return fmt.Errorf("setting up exports of federated services: %w", err)
	}
	c.watch = newWatch(mgr, run)
	configs := handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, *corev1b1.FederatedTypeConfig) []Request {
		return []Request{{Types: true}}
	})
	ours := predicate.NewTypedPredicateFuncs(func(tc *corev1b1.FederatedTypeConfig) bool {
		return tc.Name == servicesConfig || tc.Name == exportsConfig
	})
	if err := run.Watch(source.TypedKind(mgr.GetCache(), &corev1b1.FederatedTypeConfig{}, configs, ours)); err != nil {
		return fmt.Errorf("watching FederatedTypeConfigs for exports of federated services: %w", err)
	}
	return nil
}

// newWatch returns a function that watches kinds it has not watched yet. Metadata is enough to see what changed.
func newWatch(mgr manager.Manager, run controller.TypedController[Request]) func(kinds) error {
	var mu sync.Mutex
	watched := map[schema.GroupVersionKind]bool{}
	once := func(kind schema.GroupVersionKind, src func(*metav1.PartialObjectMetadata) source.TypedSource[Request]) error {
		if kind.Empty() || watched[kind] {
			return nil
		}
		object := &metav1.PartialObjectMetadata{}
		object.SetGroupVersionKind(kind)
		if err := run.Watch(src(object)); err != nil {
			return fmt.Errorf("watching %s: %w", kind.Kind, err)
		}
		watched[kind] = true
		return nil
	}
	return func(k kinds) error {
		mu.Lock()
		defer mu.Unlock()
		err := once(k.services, func(object *metav1.PartialObjectMetadata) source.TypedSource[Request] {
			return source.TypedKind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(self), asking())
		})
		if err != nil {
			return err
		}
		return once(k.exports, func(object *metav1.PartialObjectMetadata) source.TypedSource[Request] {
			return source.TypedKind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(ofService(k.services.GroupKind())))
		})
	}
}

func self(_ context.Context, object *metav1.PartialObjectMetadata) []Request {
	return []Request{{Service: client.ObjectKeyFromObject(object)}}
}

// ofService maps an export that is ours to its service, so that it is mended, and removed if its service changed its
// mind while nobody watched.
func ofService(service schema.GroupKind) func(context.Context, *metav1.PartialObjectMetadata) []Request {
	return func(ctx context.Context, export *metav1.PartialObjectMetadata) []Request {
		if !Owned(export, service) {
			return nil
		}
		return self(ctx, export)
	}
}

// asking lets through what concerns services that ask to be exported, or did so before, and those that begin to ask in a way
// that is not understood: they are told once, not at every change.
func asking() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		CreateFunc: func(e event.TypedCreateEvent[*metav1.PartialObjectMetadata]) bool {
			return asks(e.Object) || mumbles(e.Object)
		},
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			before, now := e.ObjectOld.GetAnnotations()[api.ExportAnnotation], e.ObjectNew.GetAnnotations()[api.ExportAnnotation]
			return asks(e.ObjectOld) || asks(e.ObjectNew) || mumbles(e.ObjectNew) && (before != now || !mumbles(e.ObjectOld))
		},
		DeleteFunc: func(e event.TypedDeleteEvent[*metav1.PartialObjectMetadata]) bool { return asks(e.Object) },
	}
}

// Reconcile brings the export of one FederatedService, or of all when the types have changed, into the wanted state.
func (c *Controller) Reconcile(ctx context.Context, request Request) (reconcile.Result, error) {
	k, err := c.kinds(ctx)
	if err != nil || k.services.Empty() {
		return reconcile.Result{}, err
	}
	if !request.Types {
		return reconcile.Result{}, c.reconcile(ctx, request.Service, k)
	}
	for _, kind := range []schema.GroupVersionKind{k.services, k.exports} {
		if kind.Empty() {
			continue
		}
		if _, err := c.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
			return reconcile.Result{RequeueAfter: untilServed}, nil
		} else if err != nil {
			return reconcile.Result{}, fmt.Errorf("looking for %s in the host cluster: %w", kind.Kind, err)
		}
	}
	if err := c.watch(k); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, c.all(ctx, k)
}

// all looks at every FederatedService that asks to be exported.
func (c *Controller) all(ctx context.Context, k kinds) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(k.services.GroupVersion().WithKind(k.services.Kind + "List"))
	if err := c.Client.List(ctx, list); err != nil {
		return fmt.Errorf("listing %s objects: %w", k.services.Kind, err)
	}
	for i := range list.Items {
		if !asks(&list.Items[i]) {
			continue
		}
		if err := c.reconcile(ctx, client.ObjectKeyFromObject(&list.Items[i]), k); err != nil {
			return err
		}
	}
	return nil
}

// kinds reads which types are enabled.
func (c *Controller) kinds(ctx context.Context) (k kinds, err error) {
	if k.services, err = c.kind(ctx, servicesConfig); err != nil {
		return kinds{}, err
	}
	k.exports, err = c.kind(ctx, exportsConfig)
	return k, err
}

// kind returns the federated kind of a type; empty when it is not enabled.
func (c *Controller) kind(ctx context.Context, config string) (schema.GroupVersionKind, error) {
	var tc corev1b1.FederatedTypeConfig
	err := c.Client.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: config}, &tc)
	if apierrors.IsNotFound(err) {
		return schema.GroupVersionKind{}, nil
	}
	if err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("reading FederatedTypeConfig %q: %w", config, err)
	}
	if !tc.DeletionTimestamp.IsZero() || !tc.GetPropagationEnabled() {
		return schema.GroupVersionKind{}, nil
	}
	federated := tc.Spec.FederatedType
	return schema.GroupVersionKind{Group: federated.Group, Version: federated.Version, Kind: federated.Kind}, nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName, k kinds) error {
	service, err := c.get(ctx, k.services, key)
	if err != nil {
		return err
	}
	c.ask(service)
	if k.exports.Empty() {
		if service != nil && Wanted(service, k.exports) != nil {
			c.Recorder.Warn(service, "", ReasonExportsNotEnabled,
				"The service is not exported, because exports do not spread to members yet: run `hansa enable "+exportsConfig+"`.")
		}
		return nil
	}
	live, err := c.get(ctx, k.exports, key)
	if err != nil {
		return err
	}
	var wanted *unstructured.Unstructured
	if service != nil {
		wanted = Wanted(service, k.exports)
	}
	switch ours := live != nil && Owned(live, k.services.GroupKind()); {
	case wanted == nil && ours:
		return c.remove(ctx, live)
	case wanted == nil:
		return nil
	case live == nil:
		return c.create(ctx, wanted)
	case !ours:
		c.Recorder.Warn(service, "", ReasonExportNotOurs, fmt.Sprintf(
			"There is a %s %s that was not made for this service, and it stays as it is: delete it, or remove the annotation %s.", k.exports.Kind, key, api.ExportAnnotation))
		return nil
	case live.GetDeletionTimestamp() != nil: // it is made anew when it has gone
		return nil
	}
	return c.adjust(ctx, live, wanted)
}

// ask tells what to write instead of a value that is not understood. The service may be nil.
func (c *Controller) ask(service *unstructured.Unstructured) {
	if service != nil && mumbles(service) && service.GetDeletionTimestamp() == nil {
		c.Recorder.Warn(service, "", ReasonExportNotClear, fmt.Sprintf(
			"The service is not exported, because the annotation %s has the value %.40q: write \"true\" to export it, or \"false\".",
			api.ExportAnnotation, service.GetAnnotations()[api.ExportAnnotation]))
	}
}

// get returns an object as it is in the API server; nil when there is none.
func (c *Controller) get(ctx context.Context, kind schema.GroupVersionKind, key types.NamespacedName) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	err := c.Client.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind.Kind, key, err)
	}
	return object, nil
}

func (c *Controller) create(ctx context.Context, wanted *unstructured.Unstructured) error {
	if err := c.Client.Create(ctx, wanted); err != nil {
		return fmt.Errorf("creating %s %s/%s: %w", wanted.GetKind(), wanted.GetNamespace(), wanted.GetName(), err)
	}
	return nil
}

func (c *Controller) adjust(ctx context.Context, live, wanted *unstructured.Unstructured) error {
	next, changed := Adjusted(live, wanted)
	if !changed {
		return nil
	}
	patch := client.MergeFromWithOptions(live, client.MergeFromWithOptimisticLock{})
	if err := c.Client.Patch(ctx, next, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching %s %s/%s: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return nil
}

// remove deletes an export, but not one that was changed since it was seen.
func (c *Controller) remove(ctx context.Context, live *unstructured.Unstructured) error {
	uid, version := live.GetUID(), live.GetResourceVersion()
	err := c.Client.Delete(ctx, live, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s %s/%s: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return nil
}
