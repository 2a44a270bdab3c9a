package endpoints

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Label on a DNSEndpoint says that Hansa wrote it. Its value is the namespace of the hub, since a cluster may host several.
const Label = "hansa.dev/external-dns"

// Resource is that of DNSEndpoints, as external-dns' CRD source reads them.
var Resource = schema.GroupVersionResource{Group: "externaldns.k8s.io", Version: "v1alpha1", Resource: "dnsendpoints"}

const kind = "DNSEndpoint"

// Verb is what is done to an object.
type Verb string

// The verbs. Updates carry the resource version of what they replace, deletes its UID.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Step is one write.
type Step struct {
	Verb   Verb
	Object *unstructured.Unstructured // for Delete: what is to go
}

// Have is what is there of one service.
type Have struct {
	// Hub is the namespace of the hub.
	Hub string
	// Namespace tells whether the host cluster has the namespace of the service, and it is not being deleted.
	Namespace bool
	// Objects are the service's DNSEndpoints with Label, in Places.
	Objects []*unstructured.Unstructured
}

// Plan is what to do next.
type Plan struct {
	// Steps are to be carried out in their order; none after one that failed.
	Steps []Step
	// Held tells that an address stays only because something is not known.
	Held bool
}

// Make compares what is wanted with what is there.
//
//	wanted, or held    object at home          steps
//	no                 any                     all that there is goes
//	yes                none                    it is created, then the other one goes
//	yes                being deleted           none until it is gone
//	yes                there                   what differs is written, then the other one goes
//
// Home is the namespace of the service, or the hub's as long as there is none. What moves is written first and deleted then,
// so that its names are always published.
func Make(w *Wanted, have Have) Plan {
	var plan Plan
	var published []Record
	for _, object := range have.Objects {
		for _, entry := range entriesOf(object) {
			published = append(published, recordOf(entry))
		}
	}
	var records []Record
	records, plan.Held = w.keep(published)
	home := have.home(w.Key)
	at := slices.IndexFunc(have.Objects, func(o *unstructured.Unstructured) bool { return o.GetNamespace() == home })
	switch {
	case len(records) == 0:
		at = -1
	case at < 0:
		plan.Steps = append(plan.Steps, Step{Create, newObject(w.Key, home, have.Hub, records)})
	case leaving(have.Objects[at]):
		return plan
	default:
		if mended, changed := mend(have.Objects[at], records); changed {
			plan.Steps = append(plan.Steps, Step{Update, mended})
		}
	}
	for i, object := range have.Objects {
		if i != at && !leaving(object) {
			plan.Steps = append(plan.Steps, Step{Delete, object})
		}
	}
	return plan
}

func (h *Have) home(key clusterset.Key) string {
	if h.Namespace {
		return key.Namespace
	}
	return h.Hub
}

// Places returns where the DNSEndpoints of a service may be.
func Places(key clusterset.Key, hub string) []types.NamespacedName {
	name := key.Name + "." + key.Namespace
	places := []types.NamespacedName{{Namespace: key.Namespace, Name: name}}
	if hub != key.Namespace {
		places = append(places, types.NamespacedName{Namespace: hub, Name: name})
	}
	return places
}

// KeyOf returns the service of a DNSEndpoint, and whether it is in one of its Places.
func KeyOf(name types.NamespacedName, hub string) (clusterset.Key, bool) {
	service, namespace, ok := strings.Cut(name.Name, ".")
	key := clusterset.Key{Namespace: namespace, Name: service}
	return key, ok && service != "" && namespace != "" && !strings.Contains(namespace, ".") && slices.Contains(Places(key, hub), name)
}

// Ours tells whether a hub wrote an object.
func Ours(object *unstructured.Unstructured, hub string) bool {
	return object.GetLabels()[Label] == hub
}

func leaving(object *unstructured.Unstructured) bool {
	return object.GetDeletionTimestamp() != nil
}

func newObject(key clusterset.Key, namespace, hub string, records []Record) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetGroupVersionKind(Resource.GroupVersion().WithKind(kind))
	object.SetNamespace(namespace)
	object.SetName(Places(key, hub)[0].Name)
	object.SetLabels(map[string]string{Label: hub})
	object.Object["spec"] = map[string]any{"endpoints": entries(records, nil)}
	return object
}

// mend returns a live object as it should be, and whether that differs.
func mend(live *unstructured.Unstructured, records []Record) (*unstructured.Unstructured, bool) {
	wanted := live.DeepCopy()
	spec, ok := wanted.Object["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
		wanted.Object["spec"] = spec
	}
	spec["endpoints"] = entries(records, entriesOf(live))
	return wanted, !equality.Semantic.DeepEqual(wanted.Object, live.Object)
}

// entries writes records as entries; what the old ones of the same name and type say beside stays.
func entries(records []Record, old []map[string]any) []any {
	list := make([]any, 0, len(records))
	for _, record := range records {
		i := slices.IndexFunc(old, func(entry map[string]any) bool { return same(record)(recordOf(entry)) })
		if i < 0 {
			list = append(list, record.entry(nil))
			continue
		}
		list = append(list, record.entry(old[i]))
	}
	return list
}
