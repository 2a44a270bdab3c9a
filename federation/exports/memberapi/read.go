package memberapi

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// CA is the certificate of the server, as PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// codecs know the built-in types and those of metadata alone.
var codecs, known = func() (serializer.CodecFactory, *runtime.Scheme) {
	known := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(known))
	utilruntime.Must(discoveryv1.AddToScheme(known))
	utilruntime.Must(metav1.AddMetaToScheme(known))
	return serializer.NewCodecFactory(known), known
}()

// form is how one request wants its answer.
type form struct {
	info     runtime.SerializerInfo
	custom   bool
	metadata bool
}

func formOf(r *http.Request, gvr schema.GroupVersionResource) form {
	accept := r.Header.Get("Accept")
	f := form{metadata: strings.Contains(accept, "as=PartialObjectMetadata"), custom: strings.Contains(gvr.Group, ".x-k8s.io") || gvr.Group == "about.k8s.io"}
	wanted := runtime.ContentTypeJSON
	if !f.custom && strings.Contains(accept, runtime.ContentTypeProtobuf) {
		wanted = runtime.ContentTypeProtobuf
	}
	f.info, _ = runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), wanted)
	return f
}

// shape returns an object as it is sent.
func (f form) shape(object runtime.Object) runtime.Object {
	if !f.metadata {
		return object
	}
	about, err := meta.Accessor(object)
	if err != nil {
		return object
	}
	return meta.AsPartialObjectMetadata(about)
}

// encode writes an object.
func (f form) encode(object runtime.Object, to io.Writer) error {
	if _, custom := object.(*unstructured.Unstructured); custom {
		return json.NewEncoder(to).Encode(object)
	}
	kinds, _, err := known.ObjectKinds(object)
	if err != nil {
		return err
	}
	return codecs.EncoderForVersion(f.info.Serializer, kinds[0].GroupVersion()).Encode(object, to)
}

// read answers a list or a watch.
func (s *Server) read(w http.ResponseWriter, r *http.Request, gvr schema.GroupVersionResource) {
	query := r.URL.Query()
	selector, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	verb := "list "
	if query.Get("watch") != "" {
		verb = "watch "
	}
	s.mu.Lock()
	s.requests[verb+gvr.Resource]++
	s.mu.Unlock()
	if verb == "list " {
		s.list(w, r, gvr, selector)
		return
	}
	if query.Get("sendInitialEvents") == "true" && s.NoStreams {
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
		return
	}
	s.watch(w, r, gvr, selector)
}

// sorted returns the objects that match, by name.
func (r *resource) sorted(selector labels.Selector) []runtime.Object {
	var objects []runtime.Object
	for _, name := range slices.SortedFunc(maps.Keys(r.objects), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }) {
		if matches(selector, r.objects[name]) {
			objects = append(objects, r.objects[name])
		}
	}
	return objects
}

func matches(selector labels.Selector, object runtime.Object) bool {
	if object == nil {
		return false
	}
	about, err := meta.Accessor(object)
	return err == nil && selector.Matches(labels.Set(about.GetLabels()))
}

// list answers a list, in pages if asked to.
func (s *Server) list(w http.ResponseWriter, r *http.Request, gvr schema.GroupVersionResource, selector labels.Selector) {
	s.mu.Lock()
	objects, version := s.resources[gvr].sorted(selector), s.version
	s.mu.Unlock()
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	about := metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}
	objects = objects[min(from, len(objects)):]
	if limit > 0 && len(objects) > limit {
		objects = objects[:limit]
		about.Continue = strconv.Itoa(from + limit)
	}
	f := formOf(r, gvr)
	w.Header().Set("Content-Type", f.info.MediaType)
	_ = f.encode(f.listOf(gvr, objects, about), w) // a client that is gone
}

func (f form) listOf(gvr schema.GroupVersionResource, objects []runtime.Object, about metav1.ListMeta) runtime.Object {
	switch {
	case f.metadata:
		list := &metav1.PartialObjectMetadataList{ListMeta: about}
		for _, object := range objects {
			list.Items = append(list.Items, *f.shape(object).(*metav1.PartialObjectMetadata))
		}
		return list
	case gvr == Services:
		list := &corev1.ServiceList{ListMeta: about}
		for _, object := range objects {
			list.Items = append(list.Items, *object.(*corev1.Service))
		}
		return list
	case gvr == Slices:
		list := &discoveryv1.EndpointSliceList{ListMeta: about}
		for _, object := range objects {
			list.Items = append(list.Items, *object.(*discoveryv1.EndpointSlice))
		}
		return list
	}
	items := []any{}
	for _, object := range objects {
		items = append(items, object.(*unstructured.Unstructured).Object)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gvr.GroupVersion().String(), "kind": "List", "items": items,
		"metadata": map[string]any{"resourceVersion": about.ResourceVersion, "continue": about.Continue},
	}}
}

// stream is one watch.
type stream struct {
	form     form
	gvr      schema.GroupVersionResource
	selector labels.Selector
	to       io.Writer
	flush    func()
}

func (st *stream) send(kind watch.EventType, object runtime.Object) error {
	var inner bytes.Buffer
	if err := st.form.encode(st.form.shape(object), &inner); err != nil {
		return err
	}
	if st.form.custom || st.form.info.MediaType == runtime.ContentTypeJSON {
		_, err := fmt.Fprintf(st.to, "{\"type\":%q,\"object\":%s}\n", kind, bytes.TrimSpace(inner.Bytes()))
		return err
	}
	frames := st.form.info.StreamSerializer.NewFrameWriter(st.to)
	encoder := codecs.EncoderForVersion(st.form.info.StreamSerializer.Serializer, corev1.SchemeGroupVersion)
	return encoder.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: inner.Bytes()}}, frames)
}

func (st *stream) bookmark(version uint64, end bool) error {
	about := metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(version, 10)}
	if end {
		about.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	var object runtime.Object
	switch {
	case st.form.metadata:
		object = &metav1.PartialObjectMetadata{ObjectMeta: about}
	case st.gvr == Services:
		object = &corev1.Service{ObjectMeta: about}
	case st.gvr == Slices:
		object = &discoveryv1.EndpointSlice{ObjectMeta: about}
	default:
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": st.gvr.GroupVersion().String(), "kind": "Object"}}
		u.SetResourceVersion(about.ResourceVersion)
		u.SetAnnotations(about.Annotations)
		object = u
	}
	return st.send(watch.Bookmark, object)
}

// watch answers a watch until its time is over, the client goes, or the server is told to fail.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, gvr schema.GroupVersionResource, selector labels.Selector) {
	query := r.URL.Query()
	f := formOf(r, gvr)
	flusher, _ := w.(http.Flusher)
	st := &stream{form: f, gvr: gvr, selector: selector, to: w, flush: flusher.Flush}
	contentType := f.info.MediaType
	if contentType == runtime.ContentTypeProtobuf {
		contentType += ";stream=watch"
	}
	w.Header().Set("Content-Type", contentType)
	st.flush()

	s.mu.Lock()
	res, version, bookmarks := s.resources[gvr], s.version, s.sent
	var initial []runtime.Object
	streaming := query.Get("sendInitialEvents") == "true"
	if streaming {
		initial = res.sorted(selector)
	}
	s.mu.Unlock()
	if streaming {
		for _, object := range initial {
			if st.send(watch.Added, object) != nil {
				return
			}
		}
		if st.bookmark(version, true) != nil {
			return
		}
		st.flush()
	} else if asked, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64); err == nil && asked > 0 {
		version = asked
	}
	var over <-chan time.Time
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		over = timer.C
	}
	s.follow(st, r, follower{res: res, version: version, bookmarks: bookmarks, over: over})
}

// follower is where a watch stands.
type follower struct {
	res       *resource
	version   uint64
	bookmarks uint64
	over      <-chan time.Time
}

func (s *Server) follow(st *stream, r *http.Request, f follower) {
	for {
		s.mu.Lock()
		gone := s.resources[st.gvr] != f.res
		expired := f.version < f.res.floor
		events := f.res.history
		at, _ := slices.BinarySearchFunc(events, f.version+1, func(e event, v uint64) int { return int(int64(e.version) - int64(v)) }) //nolint:gosec // G115: small
		events = events[at:]
		grown, moved, sent, version := f.res.grown, s.moved, s.sent, s.version
		fault := s.faults[st.gvr]
		failing := s.down != None || fault != None && fault != Expire
		s.mu.Unlock()
		switch {
		case gone || failing:
			return
		case expired, fault == Expire:
			_ = st.expire()
			return
		}
		for i := range events {
			if st.change(&events[i]) != nil {
				return
			}
			f.version = events[i].version
		}
		if sent != f.bookmarks {
			f.bookmarks, f.version = sent, version
			if st.bookmark(version, false) != nil {
				return
			}
		}
		st.flush()
		select {
		case <-r.Context().Done():
			return
		case <-f.over:
			return
		case <-grown:
		case <-moved:
		}
	}
}

// change sends one change as those who select see it.
func (st *stream) change(e *event) error {
	was, is := matches(st.selector, e.old), matches(st.selector, e.now)
	switch {
	case was && is:
		return st.send(watch.Modified, e.now)
	case is:
		return st.send(watch.Added, e.now)
	case was && e.now != nil:
		return st.send(watch.Deleted, e.now)
	case was:
		return st.send(watch.Deleted, e.last)
	}
	return nil
}

func (st *stream) expire() error {
	st.form.metadata = false
	status := &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: "too old resource version",
	}
	return st.send(watch.Error, status)
}

func writeJSON(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone
}
