package imports_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// store stands in for the API server of a member: names, UIDs, versions, generations, status apart from the rest, the
// defaults and addresses of Services, preconditions. It notes every write.
type store struct {
	mu       sync.Mutex
	version  int
	objects  map[schema.GroupVersionResource]map[types.NamespacedName]*unstructured.Unstructured
	watchers []*watcher
	writes   []string
	late     time.Duration // of events
	refuse   func(verb string, resource schema.GroupVersionResource, object *unstructured.Unstructured) error
	forbid   map[schema.GroupVersionResource]bool // to list
	older    bool                                 // it does not know hints for nodes
	hang     chan struct{}                        // while it is not nil, writes wait for it, or for their context
}

type watcher struct {
	resource schema.GroupVersionResource
	selector labels.Selector
	events   chan watch.Event
	stopped  bool
	store    *store
}

// send hands an event to the watch, some time later if that is asked for.
func (w *watcher) send(late time.Duration, event watch.Event) {
	if late == 0 {
		w.events <- event
		return
	}
	time.AfterFunc(late, func() {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		if !w.stopped {
			w.events <- event
		}
	})
}

func newStore() *store {
	return &store{objects: map[schema.GroupVersionResource]map[types.NamespacedName]*unstructured.Unstructured{}}
}

// written returns the writes since it was asked last, sorted.
func (s *store) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = nil
	slices.Sort(writes)
	return writes
}

func (s *store) all(resource schema.GroupVersionResource) []*unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*unstructured.Unstructured
	for _, object := range s.objects[resource] {
		all = append(all, object.DeepCopy())
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

func (s *store) get(resource schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[resource][types.NamespacedName{Namespace: namespace, Name: name}].DeepCopy()
}

// put writes as somebody else does: unnoted.
func (s *store) put(resource schema.GroupVersionResource, text string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &object.Object); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
	if old := s.objects[resource][name]; old != nil {
		object.SetUID(old.GetUID())
		object.SetCreationTimestamp(old.GetCreationTimestamp())
		return s.keep(resource, watch.Modified, object)
	}
	s.born(object)
	return s.keep(resource, watch.Added, object)
}

// drop deletes as somebody else does, with what the object owns.
func (s *store) drop(resource schema.GroupVersionResource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if object := s.objects[resource][key]; object != nil {
		delete(s.objects[resource], key)
		s.tell(resource, watch.Deleted, object)
		for kind, owned := range s.objects {
			for name, candidate := range owned {
				if owners := candidate.GetOwnerReferences(); len(owners) > 0 && owners[0].UID == object.GetUID() {
					delete(owned, name)
					s.tell(kind, watch.Deleted, candidate)
				}
			}
		}
	}
}

func (s *store) born(object *unstructured.Unstructured) {
	object.SetUID(types.UID("uid-" + strconv.Itoa(s.version+1)))
	object.SetGeneration(1)
	if created := object.GetCreationTimestamp(); created.IsZero() {
		object.SetCreationTimestamp(metav1.NewTime(epoch))
	}
}

// keep stores an object and tells the watchers. The caller holds the lock.
func (s *store) keep(resource schema.GroupVersionResource, event watch.EventType, object *unstructured.Unstructured) *unstructured.Unstructured {
	s.version++
	object = plainCopy(object)
	object.SetResourceVersion(strconv.Itoa(s.version))
	if s.objects[resource] == nil {
		s.objects[resource] = map[types.NamespacedName]*unstructured.Unstructured{}
	}
	s.objects[resource][types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}] = object
	s.tell(resource, event, object)
	return object.DeepCopy()
}

func (s *store) tell(resource schema.GroupVersionResource, event watch.EventType, object *unstructured.Unstructured) {
	object = object.DeepCopy()
	if event == watch.Deleted {
		s.version++
		object.SetResourceVersion(strconv.Itoa(s.version))
	}
	for _, w := range s.watchers {
		if w.resource == resource && !w.stopped && w.selector.Matches(labels.Set(object.GetLabels())) {
			w.send(s.late, watch.Event{Type: event, Object: object.DeepCopy()})
		}
	}
}

// plainCopy is what comes back over the wire.
func plainCopy(object *unstructured.Unstructured) *unstructured.Unstructured {
	text, err := object.MarshalJSON()
	if err != nil {
		panic(err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(text); err != nil {
		panic(err)
	}
	return out
}

// write carries out one write of the code under test.
func (s *store) write(ctx context.Context, verb string, resource schema.GroupVersionResource, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(verb, resource, object); err != nil {
			return nil, err
		}
	}
	name := types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
	old := s.objects[resource][name]
	if s.older {
		object = withoutHints(object)
	}
	if verb == "create" {
		return s.create(resource, name, object, old)
	}
	if old == nil {
		return nil, apierrors.NewNotFound(resource.GroupResource(), name.Name)
	}
	if object.GetResourceVersion() != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(resource.GroupResource(), name.Name, errors.New("it has changed"))
	}
	next := plainCopy(object)
	if verb == "updateStatus" {
		next = old.DeepCopy()
		next.Object["status"] = plainCopy(object).Object["status"]
	} else {
		if old.Object["status"] != nil {
			next.Object["status"] = old.Object["status"]
		}
		if !equality.Semantic.DeepEqual(old.Object["spec"], next.Object["spec"]) {
			next.SetGeneration(old.GetGeneration() + 1)
		}
	}
	s.note(verb, resource, name)
	if equality.Semantic.DeepEqual(old.Object, next.Object) {
		panic("a write of nothing: " + s.writes[len(s.writes)-1])
	}
	return s.keep(resource, watch.Modified, next), nil
}

func (s *store) create(resource schema.GroupVersionResource, name types.NamespacedName, object, old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if old != nil {
		return nil, apierrors.NewAlreadyExists(resource.GroupResource(), name.Name)
	}
	made := plainCopy(object)
	s.born(made)
	if resource.Resource == "services" {
		s.allocate(made)
	}
	s.note("create", resource, name)
	return s.keep(resource, watch.Added, made), nil
}

func (s *store) note(verb string, resource schema.GroupVersionResource, name types.NamespacedName) {
	s.writes = append(s.writes, verb+" "+resource.Resource+" "+name.String())
}

// allocate does what the API server does to a new Service of a single-stack IPv4 cluster.
func (s *store) allocate(service *unstructured.Unstructured) {
	spec, _ := service.Object["spec"].(map[string]any)
	if spec["clusterIP"] == "None" {
		spec["clusterIPs"] = []any{"None"}
	} else {
		ip := fmt.Sprintf("10.96.%d.%d", (s.version+1)/250, (s.version+1)%250)
		spec["clusterIP"], spec["clusterIPs"] = ip, []any{ip}
	}
	spec["ipFamilies"] = []any{"IPv4"}
	if spec["ipFamilyPolicy"] == nil {
		spec["ipFamilyPolicy"] = "SingleStack"
	}
}

func (s *store) remove(resource schema.GroupVersionResource, namespace, name string, uid *types.UID) error {
	s.mu.Lock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	old := s.objects[resource][key]
	switch {
	case old == nil:
		s.mu.Unlock()
		return apierrors.NewNotFound(resource.GroupResource(), name)
	case uid == nil || old.GetUID() != *uid:
		s.mu.Unlock()
		return apierrors.NewConflict(resource.GroupResource(), name, errors.New("another UID"))
	}
	s.note("delete", resource, key)
	s.mu.Unlock()
	s.drop(resource, namespace, name)
	return nil
}

// invalid is the answer to an object that breaks a rule.
func invalid(kind, name, why string) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: kind}, name, field.ErrorList{field.Invalid(field.NewPath("spec", "ipFamilies"), "IPv6", why)})
}

// client is the store as a dynamic client.
type client struct{ *store }

func (c client) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return access{store: c.store, resource: resource}
}

type access struct {
	dynamic.NamespaceableResourceInterface // whatever is not needed here
	store                                  *store
	resource                               schema.GroupVersionResource
	namespace                              string
}

func (a access) Namespace(namespace string) dynamic.ResourceInterface {
	a.namespace = namespace
	return a
}

func (a access) Create(ctx context.Context, object *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return a.store.write(ctx, "create", a.resource, object)
}

func (a access) Update(ctx context.Context, object *unstructured.Unstructured, _ metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return a.store.write(ctx, "update", a.resource, object)
}

func (a access) UpdateStatus(ctx context.Context, object *unstructured.Unstructured, _ metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	return a.store.write(ctx, "updateStatus", a.resource, object)
}

func (a access) Delete(_ context.Context, name string, options metav1.DeleteOptions, _ ...string) error {
	return a.store.remove(a.resource, a.namespace, name, options.Preconditions.UID)
}

func (a access) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if object := a.store.get(a.resource, a.namespace, name); object != nil {
		return object, nil
	}
	return nil, apierrors.NewNotFound(a.resource.GroupResource(), name)
}

func (a access) List(_ context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	selector, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, err
	}
	a.store.mu.Lock()
	forbidden := a.store.forbid[a.resource]
	a.store.mu.Unlock()
	if forbidden {
		return nil, apierrors.NewForbidden(a.resource.GroupResource(), "", errors.New("no"))
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, object := range a.store.all(a.resource) {
		if selector.Matches(labels.Set(object.GetLabels())) {
			list.Items = append(list.Items, *object)
		}
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	list.SetResourceVersion(strconv.Itoa(a.store.version))
	return list, nil
}

func (a access) Watch(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	selector, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, err
	}
	since, err := strconv.Atoi(options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	w := &watcher{resource: a.resource, selector: selector, events: make(chan watch.Event, 10000), store: a.store}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	for _, object := range a.store.objects[a.resource] { // what came between the list and the watch
		if v, _ := strconv.Atoi(object.GetResourceVersion()); v > since && selector.Matches(labels.Set(object.GetLabels())) {
			w.events <- watch.Event{Type: watch.Modified, Object: object.DeepCopy()}
		}
	}
	a.store.watchers = append(a.store.watchers, w)
	return w, nil
}

func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

func (w *watcher) Stop() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if !w.stopped {
		w.stopped = true
		close(w.events)
	}
}

// withoutHints is what an API server makes of an EndpointSlice that does not know hints for nodes.
func withoutHints(object *unstructured.Unstructured) *unstructured.Unstructured {
	kept := plainCopy(object)
	endpoints, _, _ := unstructured.NestedSlice(kept.Object, "endpoints")
	for _, endpoint := range endpoints {
		delete(endpoint.(map[string]any), "hints")
	}
	if endpoints != nil {
		kept.Object["endpoints"] = endpoints
	}
	return kept
}
