package imports_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// look returns what a store has of web.
func look(s *store) imports.Have {
	have := imports.Have{Namespace: true, Import: s.get(imports.ImportResource, web.Namespace, web.Name)}
	for _, service := range s.all(imports.ServiceResource) {
		if imports.Ours(service) {
			have.Service = service
		}
	}
	for _, slice := range s.all(imports.SliceResource) {
		if imports.Ours(slice) {
			have.Slices = append(have.Slices, slice)
		}
	}
	return have
}

// settle carries plans out until nothing is left to do.
func settle(tb testing.TB, s *store, snapshot *clusterset.Snapshot, cluster string) (last imports.Plan) {
	tb.Helper()
	for range 10 {
		plan, err := imports.Make(imports.For(snapshot, cluster, web, whole), look(s), epoch)
		if err != nil {
			tb.Fatal(err)
		}
		if len(plan.Steps) == 0 {
			return plan
		}
		for _, step := range plan.Steps {
			if step.Verb == imports.Delete {
				uid := step.Object.GetUID()
				err = s.remove(step.Resource, step.Object.GetNamespace(), step.Object.GetName(), &uid)
			} else {
				_, err = s.write(tb.Context(), string(step.Verb), step.Resource, step.Object)
			}
			if err != nil && !strings.Contains(err.Error(), "not found") { // gone with its owner
				tb.Fatal(err)
			}
		}
	}
	tb.Fatal("the plans do not come to an end")
	return last
}

// everything returns all objects of a store without what each store gives otherwise.
func everything(s *store) map[string]any {
	all := map[string]any{}
	for _, objects := range [][]*unstructured.Unstructured{s.all(imports.ImportResource), s.all(imports.ServiceResource), s.all(imports.SliceResource)} {
		for _, object := range objects {
			object.SetUID("")
			object.SetResourceVersion("")
			object.SetGeneration(0)
			if owners := object.GetOwnerReferences(); len(owners) > 0 {
				owners[0].UID = "owner"
				object.SetOwnerReferences(owners)
			}
			unstructured.RemoveNestedField(object.Object, "spec", "clusterIP")
			unstructured.RemoveNestedField(object.Object, "spec", "clusterIPs")
			unstructured.RemoveNestedField(object.Object, "spec", "ips")
			conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
			for _, c := range conditions {
				if fields, ok := c.(map[string]any); ok {
					delete(fields, "observedGeneration")
				}
			}
			if conditions != nil {
				_ = unstructured.SetNestedSlice(object.Object, conditions, "status", "conditions")
			}
			all[object.GetKind()+" "+object.GetName()] = object.Object
		}
	}
	return all
}

// TestGolden shows the objects of a service in the clusters that import it.
func TestGolden(t *testing.T) {
	tests := map[string]func(*clusterset.Properties){
		"clustersetip": func(p *clusterset.Properties) {
			p.SessionAffinity, p.TrafficDistribution = corev1.ServiceAffinityClientIP, "PreferClose"
			p.Ports[0].AppProtocol = "kubernetes.io/h2c"
			p.Labels, p.Annotations = map[string]string{"team": "shop", "no value": "!"}, map[string]string{"shop.example.com/note": "hello"}
		},
		"headless": func(p *clusterset.Properties) { p.Headless = true },
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			builder := clusterset.NewBuilder(0)
			facts(builder, "a@n", "b@n", "c@m")
			export(builder, "b", 1, properties(edit), "10.1.0.1=db-0", "10.1.0.2!")
			export(builder, "c", 2, properties(edit), "10.2.0.1")
			s := newStore()
			settle(t, s, builder.Publish(), "a")
			var texts []string
			for _, objects := range [][]*unstructured.Unstructured{s.all(imports.ImportResource), s.all(imports.ServiceResource), s.all(imports.SliceResource)} {
				for _, object := range objects {
					text, err := yaml.Marshal(object.Object)
					if err != nil {
						t.Fatal(err)
					}
					texts = append(texts, string(text))
				}
			}
			got := strings.Join(texts, "---\n")
			golden := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the objects differ from %s (run with -update to accept) (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// TestMinimalWrites tells which writes follow what.
func TestMinimalWrites(t *testing.T) {
	derived := imports.DerivedName("web")
	type world struct {
		*clusterset.Builder
		*store
	}
	wide := func(p *clusterset.Properties) { p.Ports = append(p.Ports, clusterset.Port{Name: "grpc", Port: 90}) }
	tests := map[string]struct {
		reason string
		after  func(world)
		want   []string // of names of slices, the source cluster
	}{
		"Nothing": {reason: "no write without a reason", after: func(world) {}},
		"Endpoint": {
			reason: "an endpoint touches the slice of its cluster alone",
			after:  func(w world) { export(w.Builder, "b", 2, properties(), "10.1.0.1", "10.1.0.9") },
			want:   []string{"update endpointslices b"},
		},
		"Readiness": {
			reason: "and so does its readiness",
			after:  func(w world) { export(w.Builder, "b", 2, properties(), "10.1.0.1!") },
			want:   []string{"update endpointslices b"},
		},
		"Unexport": {
			reason: "what came from a cluster goes with its export; the service stays",
			after:  func(w world) { w.RemoveExport("b", web) },
			want:   []string{"delete endpointslices b", "updateStatus serviceimports"},
		},
		"UnexportOfAll": {
			reason: "the last export takes everything with it",
			after:  func(w world) { w.RemoveExport("a", web); w.RemoveExport("b", web) },
			want:   []string{"delete serviceimports"}, // the store deletes what it owns, as a cluster does
		},
		"OutOfStep": {
			reason: "of a cluster that the hub does not hear, nothing goes",
			after: func(w world) {
				w.SetCluster(clusterset.Cluster{ID: "b", Network: "n", ControlPlane: clusterset.Down, LastKnown: epoch})
				w.RemoveExport("b", web)
			},
		},
		"OutOfStepAlone": {
			reason: "not even if nothing else is left",
			after: func(w world) {
				w.SetCluster(clusterset.Cluster{ID: "b", Network: "n", ControlPlane: clusterset.Down, LastKnown: epoch})
				w.RemoveExport("a", web)
				w.RemoveExport("b", web)
			},
		},
		"Left": {
			reason: "a cluster that left the clusterset is not out of step but gone",
			after:  func(w world) { w.RemoveCluster("b") },
			want:   []string{"delete endpointslices b", "updateStatus serviceimports"},
		},
		"Unread": {
			reason: "endpoints that have not been read yet are not none",
			after:  func(w world) { w.RemoveEndpoints("b", web) },
		},
		"Port": {
			reason: "another port of the oldest export is one of the service; its slices are others",
			after:  func(w world) { export(w.Builder, "a", 1, properties(wide), "10.0.0.1") },
			want: []string{
				"create endpointslices a", "delete endpointslices a", "update serviceimports", "update services",
				"updateStatus serviceimports", // it says of which generation it is
			},
		},
		"Headless": {
			reason: "a service becomes headless by another derived Service",
			after: func(w world) {
				headless := properties(func(p *clusterset.Properties) { p.Headless = true })
				export(w.Builder, "a", 1, headless, "10.0.0.1")
				export(w.Builder, "b", 2, headless, "10.1.0.1")
			},
			want: []string{
				"create endpointslices a", "create endpointslices b", "create services",
				"delete endpointslices a", "delete endpointslices b", "delete services",
				"update serviceimports", "updateStatus serviceimports",
			},
		},
		"SomebodysLabels": {
			reason: "labels and annotations of others stay and cost nothing",
			after: func(w world) {
				for _, object := range []*unstructured.Unstructured{w.get(imports.ImportResource, "shop", "web"), w.get(imports.ServiceResource, "shop", derived)} {
					object.SetAnnotations(map[string]string{"x": "y", api.DerivedServiceAnnotation: derived})
					object.SetLabels(map[string]string{
						"x": "y", imports.ManagedByLabel: "hansa.dev", api.SliceManagedByLabel: "hansa.dev", api.ServiceNameLabel: "web",
					})
					resource := imports.ImportResource
					if object.GetKind() == "Service" {
						resource = imports.ServiceResource
					}
					text, _ := object.MarshalJSON()
					w.put(resource, string(text))
				}
			},
		},
		"Drift": {
			reason: "what somebody changed is put right",
			after: func(w world) {
				object := w.get(imports.ServiceResource, "shop", derived)
				_ = unstructured.SetNestedField(object.Object, "ClientIP", "spec", "sessionAffinity")
				text, _ := object.MarshalJSON()
				w.put(imports.ServiceResource, string(text))
			},
			want: []string{"update services"},
		},
		"Deleted": {
			reason: "what somebody deleted is made again, with what went with it",
			after:  func(w world) { w.drop(imports.ImportResource, "shop", "web") },
			want: []string{
				"create endpointslices a", "create endpointslices b", "create serviceimports", "create services",
				"update serviceimports", "updateStatus serviceimports",
			},
		},
		"Consumers": {
			reason: "a policy that lets the cluster consume no more takes it away",
			after: func(w world) {
				w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"b"}}})
			},
			want: []string{"delete serviceimports"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := world{clusterset.NewBuilder(0), newStore()}
			facts(w.Builder, "a@n", "b@n")
			export(w.Builder, "a", 1, properties(), "10.0.0.1")
			export(w.Builder, "b", 2, properties(), "10.1.0.1")
			settle(t, w.store, w.Publish(), "a")
			source := map[string]string{}
			note := func() {
				for _, slice := range w.all(imports.SliceResource) {
					source[slice.GetName()] = slice.GetLabels()[api.SourceClusterLabel]
				}
			}
			note()
			w.written()
			tc.after(w)
			settle(t, w.store, w.Publish(), "a")
			note()
			if diff := cmp.Diff(tc.want, short(w.written(), source)); diff != "" {
				t.Errorf("%s\nwrites (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestExportedLabels holds that what people export as labels and annotations never makes a ServiceImport that the API server
// refuses.
func TestExportedLabels(t *testing.T) {
	builder, s := clusterset.NewBuilder(0), newStore()
	facts(builder, "a@n")
	s.refuse = func(_ string, _ schema.GroupVersionResource, object *unstructured.Unstructured) error {
		problems := metav1validation.ValidateLabels(object.GetLabels(), field.NewPath("labels"))
		return append(problems, apivalidation.ValidateAnnotations(object.GetAnnotations(), field.NewPath("annotations"))...).ToAggregate()
	}
	many, short := map[string]string{}, map[string]string{}
	for i := range 100_000 {
		short[strconv.FormatInt(int64(i), 36)] = ""
	}
	for i := range 4000 {
		many[fmt.Sprintf("example.com/%d-%s", i, strings.Repeat("x", 50))] = "y"
	}
	long := map[string]string{"a": strings.Repeat("x", 300<<10), "b/C": "kept", "D.E/f": "kept", "G H": "x"}
	tests := map[string]struct {
		labels, annotations     map[string]string
		keptLabels, keptStrings []string
	}{
		"Keys":  {map[string]string{"Example.com/a": "x", "example.com/B": "kept", "c": "-", "d d": "x"}, long, []string{"example.com/B"}, []string{"b/C", "D.E/f"}},
		"Short": {short, short, nil, nil},
		"Names": {many, many, []string{"example.com/0-" + strings.Repeat("x", 50)}, []string{"example.com/0-" + strings.Repeat("x", 50)}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			export(builder, "a", 1, properties(func(p *clusterset.Properties) { p.Labels, p.Annotations = tc.labels, tc.annotations }), "10.0.0.1")
			settle(t, s, builder.Publish(), "a")
			made := s.get(imports.ImportResource, web.Namespace, web.Name)
			for _, key := range tc.keptLabels {
				if made.GetLabels()[key] != tc.labels[key] {
					t.Errorf("the label %s is missing", key)
				}
			}
			for _, key := range tc.keptStrings {
				if made.GetAnnotations()[key] != tc.annotations[key] {
					t.Errorf("the annotation %s is missing", key)
				}
			}
		})
	}
}

// TestNamelessPort holds that exports whose ports come to several with one that has no name make objects that API servers
// take: all of several ports have names, and the slices have those of the Service.
func TestNamelessPort(t *testing.T) {
	tests := map[string]struct {
		other []clusterset.Port
		want  []string
	}{
		"NamedElsewhere": {[]clusterset.Port{{Name: "http", Port: 80}, {Name: "metrics", Port: 90}}, []string{"tcp-80", "metrics"}},
		"Taken":          {[]clusterset.Port{{Name: "tcp-80", Port: 90}}, []string{"tcp-80x", "tcp-80"}},
		"Alone":          {[]clusterset.Port{{Name: "http", Port: 80}}, []string{""}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			builder, s := clusterset.NewBuilder(0), newStore()
			facts(builder, "a@n", "b@n")
			export(builder, "a", 1, properties(func(p *clusterset.Properties) { p.Ports[0].Name = "" }), "10.0.0.1")
			export(builder, "b", 2, properties(func(p *clusterset.Properties) { p.Ports = tc.other }), "10.1.0.1")
			settle(t, s, builder.Publish(), "a")
			have := look(s)
			for _, object := range []*unstructured.Unstructured{have.Import, have.Service} {
				if diff := cmp.Diff(tc.want, portNames(t, object, "spec", "ports")); diff != "" {
					t.Errorf("the names of the ports of the %s (-want +got):\n%s", object.GetKind(), diff)
				}
			}
			for _, slice := range have.Slices {
				for _, name := range portNames(t, slice, "ports") {
					if !slices.Contains(tc.want, name) {
						t.Errorf("slice %s of %s has the port %q, which the Service has not", slice.GetName(), slice.GetLabels()[api.SourceClusterLabel], name)
					}
				}
			}
		})
	}
}

func portNames(t *testing.T, object *unstructured.Unstructured, path ...string) []string {
	t.Helper()
	ports, _, err := unstructured.NestedSlice(object.Object, path...)
	if err != nil || len(ports) == 0 {
		t.Fatalf("%s %s has no ports: %v", object.GetKind(), object.GetName(), err)
	}
	names := make([]string, len(ports))
	for i, port := range ports {
		fields, _ := port.(map[string]any)
		names[i], _ = fields["name"].(string)
	}
	return names
}

// short tells writes by verb and kind, and for slices by source.
func short(writes []string, source map[string]string) []string {
	var out []string
	for _, write := range writes {
		what, name, _ := strings.Cut(write, " shop/")
		if from, ok := source[name]; ok {
			what += " " + from
		}
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}

// TestForeign holds that nothing of somebody else is touched.
func TestForeign(t *testing.T) {
	builder, s := clusterset.NewBuilder(0), newStore()
	facts(builder, "a@n")
	export(builder, "a", 1, properties(), "10.0.0.1")
	s.put(imports.ImportResource, `{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport","metadata":{"namespace":"shop","name":"web"},"spec":{"type":"ClusterSetIP","ports":[]}}`)
	s.put(imports.SliceResource, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"shop","name":"x","labels":{"multicluster.kubernetes.io/service-name":"web"}}}`)
	plan := settle(t, s, builder.Publish(), "a")
	if !plan.Foreign {
		t.Error("it is not told that the ServiceImport is somebody else's")
	}
	builder.RemoveExport("a", web)
	if plan = settle(t, s, builder.Publish(), "a"); plan.Foreign {
		t.Error("nobody exports the service, so nothing is in the way")
	}
	if writes := s.written(); len(writes) > 0 {
		t.Errorf("written: %v", writes)
	}
}

func TestNamespaceMissing(t *testing.T) {
	builder := clusterset.NewBuilder(0)
	facts(builder, "a@n")
	export(builder, "a", 1, properties(), "10.0.0.1")
	plan, err := imports.Make(imports.For(builder.Publish(), "a", web, whole), imports.Have{}, epoch)
	if err != nil || len(plan.Steps) > 0 {
		t.Errorf("%v, %v: nothing can be made where the namespace is missing", plan.Steps, err)
	}
}

// TestHistoryDoesNotMatter plays random changes and holds: what is there at the end is what a new member gets at once, and
// another look writes nothing.
func TestHistoryDoesNotMatter(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			builder := clusterset.NewBuilder(0)
			stores := map[string]*store{"a": newStore(), "b": newStore(), "x": newStore()}
			for range 25 {
				play(random, builder)
				snapshot := builder.Publish()
				for id, s := range stores {
					settle(t, s, snapshot, id)
				}
			}
			for _, id := range slices.Sorted(maps.Keys(stores)) {
				fresh := newStore()
				stores[id].written()
				settle(t, stores[id], builder.Publish(), id)
				if writes := stores[id].written(); len(writes) > 0 {
					t.Errorf("a second look writes in %s: %v", id, writes)
				}
				settle(t, fresh, builder.Publish(), id)
				if diff := cmp.Diff(everything(fresh), everything(stores[id])); diff != "" {
					t.Errorf("%s, anew and after its history:\n%s", id, diff)
				}
			}
		})
	}
}

// play makes one random change.
func play(random *rand.Rand, builder *clusterset.Builder) {
	id := []string{"a", "b", "c", "d"}[random.IntN(4)]
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	switch random.IntN(8) {
	case 0:
		builder.RemoveExport(id, web)
	case 1:
		facts(builder, id+"@"+pick("n", "n", "m"))
	case 2:
		builder.SetCluster(clusterset.Cluster{
			ID: id, Network: pick("n", "m"), State: clusterset.State(pick("", "", "Cordoned", "Draining")), ControlPlane: clusterset.Up,
			DataPlane: clusterset.Health(pick("Up", "Down", "")),
		})
	case 3:
		policy := clusterset.Policy{}
		if random.IntN(2) == 0 {
			policy.Consumers = &clusterset.Consumers{Clusters: []string{"a", "b"}}
		}
		builder.SetPolicy(web, policy)
	default:
		p := properties(func(p *clusterset.Properties) {
			p.Headless = random.IntN(6) == 0
			p.SessionAffinity = corev1.ServiceAffinity(pick("None", "None", "ClientIP"))
			if random.IntN(3) == 0 {
				p.Ports = append(p.Ports, clusterset.Port{Name: "grpc", Port: 90})
			}
			if random.IntN(3) == 0 {
				p.Labels = map[string]string{pick("l", "m"): pick("1", "2")}
			}
		})
		var pods []string
		for i := range random.IntN(150) {
			pods = append(pods, fmt.Sprintf("10.%d.%d.%d%s", id[0], i/250, i%250+1, pick("", "", "!", "~")))
		}
		export(builder, id, random.IntN(5), p, pods...)
	}
	if random.IntN(4) == 0 {
		facts(builder, "a@n", "b@n", "c@n", "d@n")
	}
}
