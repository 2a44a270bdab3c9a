package typeconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	mcbuilder "sigs.k8s.io/multicluster-runtime/pkg/builder"
	mcmanager "sigs.k8s.io/multicluster-runtime/pkg/manager"
	mcreconcile "sigs.k8s.io/multicluster-runtime/pkg/reconcile"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
)

// States of a type in one member, as FederatedTypeConfig.status.clusters[].state shows them.
const (
	StateRunning      = string(cluster.WatchRunning)
	StateWaiting      = string(cluster.WatchWaiting)
	StateForbidden    = string(cluster.WatchForbidden)
	StateNotInstalled = string(cluster.WatchNotInstalled)
	StateUnreachable  = string(cluster.WatchUnreachable)
)

// ClusterState is one entry of FederatedTypeConfig.status.clusters, which Hansa adds to KubeFed's status.
type ClusterState struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Message string `json:"message,omitempty"`
}

// Runner propagates types.
type Runner interface {
	// Start begins to propagate a type until the Running it returns is stopped. moved is called, without blocking,
	// when Ready or Clusters of the Running may have changed.
	Start(ctx context.Context, tc *corev1b1.FederatedTypeConfig, moved func()) Running
}

// Running is a type that is being propagated.
type Running interface {
	// Stop ends propagation and returns when it has ended. Objects in members stay.
	Stop()
	// Ready reports whether the federated objects of the type are known; else why not.
	Ready() (bool, string)
	// Clusters returns the state in each member, sorted by name.
	Clusters() []ClusterState
}

// Engine starts and stops the propagation of types as their FederatedTypeConfigs say, at run time. It runs on the
// leader only.
type Engine struct {
	Client    client.Client // of the host cluster
	Reader    client.Reader // of the host cluster, past any cache
	Runner    Runner
	Namespace string // of the hub

	run   context.Context //nolint:containedctx // the life of the types, which outlive the call that starts them
	poke  func(name string)
	mu    sync.Mutex
	types map[string]*active
	last  map[string]string // the status that stands, as JSON, by name
}

// A type whose members are still being listed, or cannot be, is not reported as such before that has lasted for a while,
// so that a broken connection which comes back at once is not written about. It takes longer after a restart of the hub
// if a status stands that says it runs.
const (
	settling   = 3 * time.Second
	resettling = 30 * time.Second
)

// active is a type that runs, with the spec it was started for.
type active struct {
	running   Running
	spec      corev1b1.FederatedTypeConfigSpec
	unsettled time.Time // since when it is not settled; zero while it is
}

// SetupWithManager starts the engine as a controller of the host cluster.
func (e *Engine) SetupWithManager(mgr mcmanager.Manager) error {
	e.types, e.last = map[string]*active{}, map[string]string{}
	moved := source.TypedFunc[mcreconcile.Request](func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[mcreconcile.Request]) error {
		e.run = ctx
		e.poke = func(name string) {
			queue.Add(mcreconcile.Request{Request: reconcile.Request{NamespacedName: types.NamespacedName{Namespace: e.Namespace, Name: name}}})
		}
		context.AfterFunc(ctx, e.stopAll)
		return nil
	})
	err := mcbuilder.ControllerManagedBy(mgr).
		Named("federatedtypeconfig").
		For(&corev1b1.FederatedTypeConfig{}, mcbuilder.WithEngageWithLocalCluster(true), mcbuilder.WithEngageWithProviderClusters(false)).
		WatchesRawSource(moved).
		Complete(e)
	if err != nil {
		return fmt.Errorf("setting up the type controller: %w", err)
	}
	return nil
}

// Reconcile brings one type into the state that its FederatedTypeConfig asks for.
func (e *Engine) Reconcile(ctx context.Context, request mcreconcile.Request) (reconcile.Result, error) {
	var tc corev1b1.FederatedTypeConfig
	if err := e.Client.Get(ctx, request.NamespacedName, &tc); err != nil {
		if !apierrors.IsNotFound(err) {
			return reconcile.Result{}, fmt.Errorf("reading FederatedTypeConfig %q: %w", request.Name, err)
		}
		e.stop(request.Name)
		return reconcile.Result{}, nil
	}
	stored := tc.DeepCopy()
	corev1b1.SetFederatedTypeConfigDefaults(&tc)
	if !tc.DeletionTimestamp.IsZero() {
		e.stop(tc.Name)
		return reconcile.Result{}, e.setFinalizer(ctx, stored, false)
	}
	if err := e.setFinalizer(ctx, stored, true); err != nil {
		return reconcile.Result{}, err
	}
	if tc.GetPropagationEnabled() {
		if err := e.ensureCRD(ctx, &tc); err != nil {
			return reconcile.Result{}, err
		}
		e.start(ctx, &tc)
	} else {
		e.stop(tc.Name)
	}
	again, err := e.publish(ctx, &tc)
	return reconcile.Result{RequeueAfter: again}, err
}

// start runs a type, anew if what it was started for has changed.
func (e *Engine) start(ctx context.Context, tc *corev1b1.FederatedTypeConfig) {
	e.mu.Lock()
	old := e.types[tc.Name]
	e.mu.Unlock()
	if old != nil && reflect.DeepEqual(old.spec, tc.Spec) {
		return
	}
	e.stop(tc.Name)
	log.FromContext(ctx).Info("Starting propagation", "type", tc.Name)
	name := tc.Name
	running := e.Runner.Start(e.run, tc.DeepCopy(), func() { e.poke(name) })
	e.mu.Lock()
	e.types[tc.Name] = &active{running: running, spec: *tc.Spec.DeepCopy(), unsettled: time.Now()}
	e.mu.Unlock()
}

func (e *Engine) stop(name string) {
	e.mu.Lock()
	old := e.types[name]
	delete(e.types, name)
	delete(e.last, name)
	e.mu.Unlock()
	if old != nil {
		old.running.Stop()
	}
}

func (e *Engine) stopAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, a := range e.types {
		a.running.Stop()
		delete(e.types, name)
	}
}

// ensureCRD creates the CRD of the federated kind when there is none, so that a FederatedTypeConfig alone enables a
// type. An existing CRD is left as it is: it may be KubeFed's, or changed by its owner.
func (e *Engine) ensureCRD(ctx context.Context, tc *corev1b1.FederatedTypeConfig) error {
	wanted := CRDFor(tc)
	var crd metav1.PartialObjectMetadata
	crd.SetGroupVersionKind(apiextv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	err := e.Client.Get(ctx, types.NamespacedName{Name: wanted.Name}, &crd)
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading CustomResourceDefinition %q: %w", wanted.Name, err)
	}
	if err := e.Client.Create(ctx, wanted); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating CustomResourceDefinition %q for FederatedTypeConfig %q: %w", wanted.Name, tc.Name, err)
	}
	return nil
}

// setFinalizer adds or removes KubeFed's finalizer, which keeps a FederatedTypeConfig until its type has stopped.
func (e *Engine) setFinalizer(ctx context.Context, tc *corev1b1.FederatedTypeConfig, wanted bool) error {
	before := tc.DeepCopy()
	change := controllerutil.RemoveFinalizer
	if wanted {
		change = controllerutil.AddFinalizer
	}
	if !change(tc, api.TypeConfigFinalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := e.Client.Patch(ctx, tc, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching the finalizers of FederatedTypeConfig %q: %w", tc.Name, err)
	}
	return nil
}

// status is KubeFed's status of a FederatedTypeConfig with Hansa's addition.
type status struct {
	corev1b1.FederatedTypeConfigStatus `json:",inline"`

	Clusters []ClusterState `json:"clusters"`
}

// publish writes the status when it says something new. again is when to look once more, 0 for never.
func (e *Engine) publish(ctx context.Context, tc *corev1b1.FederatedTypeConfig) (again time.Duration, err error) {
	e.mu.Lock()
	a, last := e.types[tc.Name], e.last[tc.Name]
	e.mu.Unlock()
	if a != nil {
		patience := settling
		if last == "" && tc.Status.ObservedGeneration == tc.Generation && tc.Status.PropagationController == corev1b1.ControllerStatusRunning {
			patience = resettling
		}
		if wait := a.settles(patience, time.Now()); wait > 0 {
			return wait, nil
		}
	}
	next := status{FederatedTypeConfigStatus: corev1b1.FederatedTypeConfigStatus{
		ObservedGeneration:    tc.Generation,
		PropagationController: corev1b1.ControllerStatusNotRunning,
	}}
	if a != nil {
		next.Clusters = a.running.Clusters()
		for i := range next.Clusters {
			next.Clusters[i].Message = explain(tc, next.Clusters[i])
		}
		if ready, _ := a.running.Ready(); ready {
			next.PropagationController = corev1b1.ControllerStatusRunning
		}
	}
	if tc.GetStatusEnabled() {
		next.StatusController = new(next.PropagationController)
	}
	wanted, err := json.Marshal(map[string]any{"status": next})
	if err != nil {
		return 0, fmt.Errorf("encoding the status of FederatedTypeConfig %q: %w", tc.Name, err)
	}
	if same, err := e.stands(ctx, tc, wanted); err != nil || same {
		return 0, err
	}
	if err := e.Client.Status().Patch(ctx, tc.DeepCopy(), client.RawPatch(types.MergePatchType, wanted)); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("writing the status of FederatedTypeConfig %q: %w", tc.Name, err)
	}
	e.mu.Lock()
	e.last[tc.Name] = string(wanted)
	e.mu.Unlock()
	return 0, nil
}

// settles returns how long to wait for a type to settle: until the federated objects and every member have been listed,
// or a member has said that it never will be, but not longer than patience.
func (a *active) settles(patience time.Duration, now time.Time) time.Duration {
	ready, _ := a.running.Ready()
	passing := func(c ClusterState) bool { return c.State == StateWaiting || c.State == StateUnreachable }
	if ready && !slices.ContainsFunc(a.running.Clusters(), passing) {
		a.unsettled = time.Time{}
		return 0
	}
	if a.unsettled.IsZero() {
		a.unsettled = now
	}
	return patience - now.Sub(a.unsettled)
}

// stands reports whether the status in the API is the wanted one. What is not remembered is read past the cache and
// without a Go type, since KubeFed's type has no room for the members' states.
func (e *Engine) stands(ctx context.Context, tc *corev1b1.FederatedTypeConfig, wanted []byte) (bool, error) {
	e.mu.Lock()
	last := e.last[tc.Name]
	e.mu.Unlock()
	if last != "" {
		return last == string(wanted), nil
	}
	var live unstructured.Unstructured
	live.SetGroupVersionKind(corev1b1.SchemeGroupVersion.WithKind("FederatedTypeConfig"))
	if err := e.Reader.Get(ctx, client.ObjectKeyFromObject(tc), &live); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	var next map[string]any
	if err := json.Unmarshal(wanted, &next); err != nil {
		return false, fmt.Errorf("decoding a status: %w", err)
	}
	stored, err := json.Marshal(live.Object["status"])
	if err != nil {
		return false, fmt.Errorf("encoding a status: %w", err)
	}
	fresh, err := json.Marshal(next["status"])
	if err != nil {
		return false, fmt.Errorf("encoding a status: %w", err)
	}
	return string(stored) == string(fresh), nil // maps are encoded with sorted keys
}

// explain adds to a member's state the next step for a person.
func explain(tc *corev1b1.FederatedTypeConfig, c ClusterState) string {
	target := tc.GetTargetType()
	switch c.State {
	case StateForbidden:
		return fmt.Sprintf("the hub may not manage %s in this cluster; grant it with: %s", QualifiedName(target.Name, target.Group), GrantCommand(tc, c.Name))
	case StateNotInstalled:
		return fmt.Sprintf("this cluster does not serve %s; install the CustomResourceDefinition there", QualifiedName(target.Name, target.Group))
	case StateRunning:
		return ""
	}
	return c.Message
}

// GrantCommand returns the shell command that lets the hub manage a type in a member that was joined with least
// privilege: a ClusterRole whose label adds it to what the hub may do there. The context is assumed to be named as the
// cluster is.
func GrantCommand(tc *corev1b1.FederatedTypeConfig, cluster string) string {
	target := tc.GetTargetType()
	resource := QualifiedName(target.Name, target.Group)
	role := "hansa-member-" + strings.ReplaceAll(resource, ".", "-")
	verbs := strings.Join(slices.Clone(memberVerbs), ",")
	return fmt.Sprintf("kubectl --context %[1]s create clusterrole %[2]s --verb=%[3]s --resource=%[4]s && kubectl --context %[1]s label clusterrole %[2]s %[5]s=true",
		cluster, role, verbs, resource, api.AggregateToMemberLabel)
}

// memberVerbs are what propagation of a type needs in a member.
var memberVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete"}
