package endpoints_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/dns/endpoints"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// store stands in for the API server of the host cluster: names, UIDs, versions, preconditions. It notes every write of the
// code under test.
type store struct {
	mu       sync.Mutex
	version  int
	lacks    bool                                 // the kind DNSEndpoint
	forbids  map[schema.GroupVersionResource]bool // to list
	refuse   error                                // the answer to every write
	lists    int                                  // of DNSEndpoints that were asked for
	objects  map[schema.GroupVersionResource]map[types.NamespacedName]*unstructured.Unstructured
	watchers []*watcher
	writes   []string
}

type watcher struct {
	resource schema.GroupVersionResource
	selector labels.Selector
	events   chan watch.Event
	stopped  bool
	store    *store
}

func newStore() *store {
	return &store{objects: map[schema.GroupVersionResource]map[types.NamespacedName]*unstructured.Unstructured{namespaces: {}, endpoints.Resource: {}}}
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

func (s *store) get(resource schema.GroupVersionResource, name types.NamespacedName) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[resource][name].DeepCopy()
}

func nameOf(object *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

// put writes as somebody else does: unnoted, and whatever the version.
func (s *store) put(resource schema.GroupVersionResource, object *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object = object.DeepCopy()
	if old := s.objects[resource][nameOf(object)]; old != nil {
		object.SetUID(old.GetUID())
		s.keep(resource, watch.Modified, object)
		return
	}
	object.SetUID(types.UID("uid-" + strconv.Itoa(s.version+1)))
	s.keep(resource, watch.Added, object)
}

// drop deletes as somebody else does.
func (s *store) drop(resource schema.GroupVersionResource, name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if object := s.objects[resource][name]; object != nil {
		delete(s.objects[resource], name)
		s.version++
		gone := object.DeepCopy()
		gone.SetResourceVersion(strconv.Itoa(s.version))
		s.tell(resource, watch.Deleted, gone, object)
	}
}

// keep stores an object and tells the watchers. The caller holds the lock.
func (s *store) keep(resource schema.GroupVersionResource, event watch.EventType, object *unstructured.Unstructured) *unstructured.Unstructured {
	s.version++
	object.SetResourceVersion(strconv.Itoa(s.version))
	before := s.objects[resource][nameOf(object)]
	s.objects[resource][nameOf(object)] = object
	s.tell(resource, event, object, before)
	return object.DeepCopy()
}

// tell sends an event to who watches, as an API server does: what ceases to fit a selector is deleted for who uses it.
func (s *store) tell(resource schema.GroupVersionResource, event watch.EventType, object, before *unstructured.Unstructured) {
	for _, w := range s.watchers {
		fits := func(o *unstructured.Unstructured) bool {
			return o != nil && w.selector.Matches(labels.Set(o.GetLabels()))
		}
		switch {
		case w.resource != resource || w.stopped:
		case fits(object):
			w.events <- watch.Event{Type: event, Object: object.DeepCopy()}
		case fits(before):
			w.events <- watch.Event{Type: watch.Deleted, Object: object.DeepCopy()}
		}
	}
}

// write carries out a create or an update of the code under test.
func (s *store) write(verb endpoints.Verb, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, group := nameOf(object), endpoints.Resource.GroupResource()
	old := s.objects[endpoints.Resource][name]
	switch {
	case s.refuse != nil:
		return nil, s.refuse
	case s.objects[namespaces][types.NamespacedName{Name: name.Namespace}] == nil:
		return nil, apierrors.NewNotFound(namespaces.GroupResource(), name.Namespace)
	case verb == endpoints.Create && old != nil:
		return nil, apierrors.NewAlreadyExists(group, name.Name)
	case verb == endpoints.Update && old == nil:
		return nil, apierrors.NewNotFound(group, name.Name)
	case verb == endpoints.Update && old.GetResourceVersion() != object.GetResourceVersion():
		return nil, apierrors.NewConflict(group, name.Name, errors.New("it has changed"))
	case verb == endpoints.Update && equality.Semantic.DeepEqual(old.Object, object.Object):
		panic("a write of nothing: " + name.String())
	}
	s.writes = append(s.writes, string(verb)+" "+name.String())
	object = object.DeepCopy()
	if verb == endpoints.Update {
		return s.keep(endpoints.Resource, watch.Modified, object), nil
	}
	object.SetUID(types.UID("uid-" + strconv.Itoa(s.version+1)))
	return s.keep(endpoints.Resource, watch.Added, object), nil
}

func (s *store) remove(name types.NamespacedName, uid *types.UID) error {
	s.mu.Lock()
	old, refuse := s.objects[endpoints.Resource][name], s.refuse
	s.mu.Unlock()
	switch {
	case refuse != nil:
		return refuse
	case old == nil:
		return apierrors.NewNotFound(endpoints.Resource.GroupResource(), name.Name)
	case uid == nil || old.GetUID() != *uid:
		return apierrors.NewConflict(endpoints.Resource.GroupResource(), name.Name, errors.New("another UID"))
	}
	s.mu.Lock()
	s.writes = append(s.writes, "delete "+name.String())
	s.mu.Unlock()
	s.drop(endpoints.Resource, name)
	return nil
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

func (a access) Create(_ context.Context, object *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return a.store.write(endpoints.Create, object)
}

func (a access) Update(_ context.Context, object *unstructured.Unstructured, _ metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return a.store.write(endpoints.Update, object)
}

func (a access) Delete(_ context.Context, name string, options metav1.DeleteOptions, _ ...string) error {
	return a.store.remove(types.NamespacedName{Namespace: a.namespace, Name: name}, options.Preconditions.UID)
}

func (a access) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if object := a.store.get(a.resource, types.NamespacedName{Namespace: a.namespace, Name: name}); object != nil {
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
	defer a.store.mu.Unlock()
	if a.store.forbids[a.resource] {
		return nil, apierrors.NewForbidden(a.resource.GroupResource(), "", errors.New("no"))
	}
	if a.resource == endpoints.Resource {
		a.store.lists++
		if a.store.lacks {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound, Message: "the server could not find the requested resource"}}
		}
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, object := range a.store.objects[a.resource] {
		if selector.Matches(labels.Set(object.GetLabels())) {
			list.Items = append(list.Items, *object.DeepCopy())
		}
	}
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
