// Package memberapi is a member's API server in memory, for tests and benchmarks: it speaks the wire format of the real one
// (TLS, HTTP/2, protobuf and JSON, lists in pages and as streams, watches with bookmarks) for the kinds that are exported,
// and fails as it is told.
package memberapi

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The resources that a server has. Custom ones are served after Install.
var (
	Services   = corev1.SchemeGroupVersion.WithResource("services")
	Slices     = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
	Nodes      = corev1.SchemeGroupVersion.WithResource("nodes")
	Exports    = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}
	ExportsOld = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1alpha1", Resource: "serviceexports"}
	Properties = schema.GroupVersionResource{Group: "about.k8s.io", Version: "v1beta1", Resource: "clusterproperties"}
)

// Fault is a way to fail.
type Fault int

// The faults.
const (
	None    Fault = iota
	Forbid        // 403
	Hang          // accept, and never answer
	Refuse        // 503
	Abort         // end the connection without an answer
	Unknown       // 404 although the resource is served, as a proxy on the way would
	Expire        // list, and then say that the version is too old to watch from
	Endless       // send something that never ends
)

// Server is an API server in memory. Its methods may be called by anybody at any time.
type Server struct {
	// NoStreams makes the server one that does not send lists as watches, as older ones are.
	NoStreams bool

	http *httptest.Server

	mu        sync.Mutex
	version   uint64
	resources map[schema.GroupVersionResource]*resource
	faults    map[schema.GroupVersionResource]Fault
	down      Fault // of everything
	starting  bool
	requests  map[string]int
	moved     chan struct{} // closed and replaced at every change of faults
	sent      uint64        // number of bookmarks asked for
}

// resource is one kind with its history.
type resource struct {
	gvr     schema.GroupVersionResource
	objects map[types.NamespacedName]runtime.Object
	history []event
	floor   uint64 // what was before is forgotten
	grown   chan struct{}
}

// event is one change. old is what was there before.
type event struct {
	version  uint64
	old, now runtime.Object // now is nil after a deletion
	last     runtime.Object // as deleted, with the version of the deletion
}

// New starts a server with the built-in resources.
func New() *Server {
	s := &Server{
		version: 1, resources: map[schema.GroupVersionResource]*resource{}, faults: map[schema.GroupVersionResource]Fault{},
		requests: map[string]int{}, moved: make(chan struct{}),
	}
	s.Install(Services, Slices, Nodes)
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.EnableHTTP2 = true
	s.http.StartTLS()
	return s
}

// URL is where the server is; CA is its certificate.
func (s *Server) URL() string { return s.http.URL }

// Close ends the server with all its connections.
func (s *Server) Close() {
	s.Break(Abort)
	s.http.CloseClientConnections()
	s.http.Close()
}

// Install makes the server serve resources.
func (s *Server) Install(resources ...schema.GroupVersionResource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, gvr := range resources {
		if s.resources[gvr] == nil {
			s.resources[gvr] = &resource{gvr: gvr, objects: map[types.NamespacedName]runtime.Object{}, grown: make(chan struct{})}
		}
	}
}

// Uninstall makes the server forget a custom resource; its watches end.
func (s *Server) Uninstall(gvr schema.GroupVersionResource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resources, gvr)
	s.stir()
}

// Set creates or replaces objects. Each gets a version of its own.
func (s *Server) Set(gvr schema.GroupVersionResource, objects ...runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resources[gvr]
	for _, object := range objects {
		s.version++
		now, about := copied(object, s.version)
		name := types.NamespacedName{Namespace: about.GetNamespace(), Name: about.GetName()}
		r.history = append(r.history, event{version: s.version, old: r.objects[name], now: now})
		r.objects[name] = now
	}
	r.stir()
}

// Delete removes an object.
func (s *Server) Delete(gvr schema.GroupVersionResource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resources[gvr]
	key := types.NamespacedName{Namespace: namespace, Name: name}
	old := r.objects[key]
	if old == nil {
		return
	}
	s.version++
	last, _ := copied(old, s.version)
	r.history = append(r.history, event{version: s.version, old: old, last: last})
	delete(r.objects, key)
	r.stir()
}

// Compact forgets the history, so that watches can be continued from now on only.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	for _, r := range s.resources {
		r.history, r.floor = nil, s.version
		r.stir()
	}
}

// Bookmark sends a bookmark on all watches.
func (s *Server) Bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	s.version++
	for _, r := range s.resources {
		r.stir()
	}
}

// Fail makes the server fail for one resource from now on; watches under way end.
func (s *Server) Fail(gvr schema.GroupVersionResource, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[gvr] = fault
	s.stir()
}

// Break makes the server fail for everything, /readyz included; watches under way end.
func (s *Server) Break(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = fault
	s.stir()
}

// Starting makes the server one that has just started, or has done so: until then it is not ready, and knows of no custom
// resource. Watches under way go on until Drop.
func (s *Server) Starting(starting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting = starting
}

// custom tells whether a resource is one that a server learns of after its start.
func custom(gvr schema.GroupVersionResource) bool {
	return strings.Contains(gvr.Group, ".") && gvr.Group != Slices.Group
}

// Drop ends all connections.
func (s *Server) Drop() { s.http.CloseClientConnections() }

// Requests returns how often each verb was asked for, as "list services" or "watch endpointslices".
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// stir wakes everything that waits. The caller holds the lock.
func (s *Server) stir() {
	close(s.moved)
	s.moved = make(chan struct{})
}

func (r *resource) stir() {
	close(r.grown)
	r.grown = make(chan struct{})
}

func copied(object runtime.Object, version uint64) (runtime.Object, metav1.Object) {
	now := object.DeepCopyObject()
	about, err := meta.Accessor(now)
	if err != nil {
		panic(fmt.Sprintf("memberapi: %T is no object: %v", object, err))
	}
	about.SetResourceVersion(strconv.FormatUint(version, 10))
	if about.GetUID() == "" {
		about.SetUID(types.UID(about.GetNamespace() + "/" + about.GetName()))
	}
	return now, about
}

// fault returns how a request is to fail, and what is closed when that may have changed.
func (s *Server) fault(gvr schema.GroupVersionResource) (Fault, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != None {
		return s.down, s.moved
	}
	return s.faults[gvr], s.moved
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	gvr, isResource := parse(r.URL.Path)
	fault, _ := s.fault(gvr)
	switch fault {
	case Hang:
		<-r.Context().Done()
		return
	case Abort:
		panic(http.ErrAbortHandler)
	case Refuse:
		refuse(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the server is told to refuse")
		return
	case Forbid:
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, gvr.Resource+" is forbidden")
		return
	case Unknown:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "there is nothing here")
		return
	case Endless:
		endless(w, r)
		return
	case None, Expire:
	}
	switch {
	case r.URL.Path == "/readyz" && s.isStarting():
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "[-]poststarthook/crd-informer-synced failed")
	case r.URL.Path == "/readyz":
		_, _ = w.Write([]byte("ok"))
	case r.URL.Path == "/apis", !isResource && strings.HasPrefix(r.URL.Path, "/api"):
		s.discover(w, r.URL.Path)
	case isResource && s.has(gvr):
		s.read(w, r, gvr)
	default:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
	}
}

func (s *Server) has(gvr schema.GroupVersionResource) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resources[gvr] != nil && (!s.starting || !custom(gvr))
}

func (s *Server) isStarting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starting
}

// parse returns the resource that a path names.
func parse(path string) (schema.GroupVersionResource, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) == 3 && parts[0] == "api":
		return schema.GroupVersionResource{Version: parts[1], Resource: parts[2]}, true
	case len(parts) == 4 && parts[0] == "apis":
		return schema.GroupVersionResource{Group: parts[1], Version: parts[2], Resource: parts[3]}, true
	}
	return schema.GroupVersionResource{}, false
}

// discover answers what is served.
func (s *Server) discover(w http.ResponseWriter, path string) {
	s.mu.Lock()
	served := slices.DeleteFunc(slices.Collect(maps.Keys(s.resources)), func(gvr schema.GroupVersionResource) bool {
		return s.starting && custom(gvr)
	})
	s.mu.Unlock()
	if path == "/apis" {
		groups := map[string]*metav1.APIGroup{}
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, gvr := range served {
			if gvr.Group == "" {
				continue
			}
			if groups[gvr.Group] == nil {
				groups[gvr.Group] = &metav1.APIGroup{Name: gvr.Group}
			}
			groups[gvr.Group].Versions = append(groups[gvr.Group].Versions, metav1.GroupVersionForDiscovery{
				GroupVersion: gvr.GroupVersion().String(), Version: gvr.Version,
			})
		}
		for _, group := range groups {
			list.Groups = append(list.Groups, *group)
		}
		writeJSON(w, http.StatusOK, &list)
		return
	}
	version := strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/")
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version}
	for _, gvr := range served {
		if gvr.GroupVersion().String() == version {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: gvr.Resource})
		}
	}
	if len(list.APIResources) == 0 {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	writeJSON(w, http.StatusOK, &list)
}

// endless sends an object that does not end before the client has had enough, or 256 MiB.
func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	_, _ = io.WriteString(w, `{"type":"ADDED","object":{"kind":"`)
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for i := 0; i < 256 && r.Context().Err() == nil; i++ {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	writeJSON(w, code, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, //nolint:gosec // G115: of HTTP
	})
}
