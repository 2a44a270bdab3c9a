package exports_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	m.Run()
}

func TestWatcherFollows(t *testing.T) {
	for _, noStreams := range []bool{false, true} {
		w := newWorld(t, exports.Options{})
		server := w.serve("c1")
		server.NoStreams = noStreams
		offer(server, "web", "10.1.0.1", "10.1.0.2")
		w.roll.set(w.member("c1", up))
		w.run()
		<-w.watcher.Ready()
		w.until("the service", serving("c1", "10.1.0.1", "10.1.0.2"))
		server.Set(memberapi.Slices, endpoints("web", "web-2", "10.1.0.3"))
		w.until("the second slice", serving("c1", "10.1.0.1", "10.1.0.2", "10.1.0.3"))
		server.Delete(memberapi.Slices, "shop", "web-1")
		w.until("the end of the first slice", serving("c1", "10.1.0.3"))
		server.Delete(memberapi.Exports, "shop", "web")
		w.until("the end of the export", serving("c1"))
	}
}

// TestStories lets things happen to a member that serves web at 10.1.0.1, and looks what becomes of it.
func TestStories(t *testing.T) {
	inStep := func(w *world) bool { return w.state("c1").LastKnown.IsZero() }
	for name, story := range map[string]func(*world, *memberapi.Server){
		"a watch that is reset goes on": func(w *world, server *memberapi.Server) {
			server.Drop()
			server.Set(memberapi.Slices, endpoints("web", "web-1", "10.1.0.9"))
			w.until("the change", serving("c1", "10.1.0.9"))
		},
		"history that is gone is listed again": func(w *world, server *memberapi.Server) {
			server.Fail(memberapi.Slices, memberapi.Refuse)
			w.eventually("out of step", func() bool { return !inStep(w) })
			server.Set(memberapi.Slices, endpoints("web", "web-1", "10.1.0.9"))
			server.Set(memberapi.Slices, endpoints("web", "web-2", "10.1.0.8"))
			server.Delete(memberapi.Slices, "shop", "web-1")
			server.Compact()
			server.Fail(memberapi.Slices, memberapi.None)
			w.until("the change", serving("c1", "10.1.0.8"))
			w.eventually("in step again", func() bool { return inStep(w) })
		},
		"bookmarks carry a watch over compaction": func(w *world, server *memberapi.Server) {
			server.Bookmark()
			server.Set(memberapi.Slices, endpoints("web", "web-1", "10.1.0.9"))
			w.until("the change", serving("c1", "10.1.0.9"))
		},
		"what becomes forbidden stays and ages": func(w *world, server *memberapi.Server) {
			server.Fail(memberapi.Slices, memberapi.Forbid)
			w.eventually("forbidden", func() bool { return w.watchState("c1", "EndpointSlice") == exports.StateForbidden })
			if inStep(w) {
				w.t.Error("the hub claims to be in step with what it may not read")
			}
			if !slices.ContainsFunc(w.state("c1").Watches, func(s exports.WatchState) bool { return strings.Contains(s.Message, "join the cluster again") }) {
				w.t.Errorf("nobody is told what to do: %+v", w.state("c1").Watches)
			}
			w.until("what was known", serving("c1", "10.1.0.1"))
		},
		"a 404 from a proxy takes nothing away": func(w *world, server *memberapi.Server) {
			server.Fail(memberapi.Exports, memberapi.Unknown)
			w.eventually("unreachable", func() bool { return w.watchState("c1", "ServiceExport") == exports.StateUnreachable })
			w.until("what was known", serving("c1", "10.1.0.1"))
		},
		"an API server that starts knows of no custom resource yet, which takes nothing away": func(w *world, server *memberapi.Server) {
			server.Starting(true)
			server.Drop()
			w.eventually("unreachable", func() bool { return w.watchState("c1", "ServiceExport") == exports.StateUnreachable })
			w.until("what was known", serving("c1", "10.1.0.1"))
			server.Starting(false)
			w.eventually("in step again", func() bool { return inStep(w) && w.watchState("c1", "ServiceExport") == exports.StateRunning })
			w.until("what was known", serving("c1", "10.1.0.1"))
		},
		"a CRD that goes takes its exports with it, and brings them back": func(w *world, server *memberapi.Server) {
			server.Uninstall(memberapi.Exports)
			w.until("no export", serving("c1"))
			w.eventually("not installed", func() bool { return w.watchState("c1", "ServiceExport") == exports.StateNotInstalled })
			if !inStep(w) {
				w.t.Error("a CRD that is not installed is a normal state, but the cluster ages")
			}
			server.Install(memberapi.ExportsOld)
			server.Set(memberapi.ExportsOld, export("web"))
			w.until("the export in the older version", serving("c1", "10.1.0.1"))
		},
		"a member that is away keeps its endpoints": func(w *world, server *memberapi.Server) {
			server.Break(memberapi.Hang)
			w.roll.set(w.member("c1", away))
			snapshot := w.until("down", func(s *clusterset.Snapshot) bool { return s.Cluster("c1").ControlPlane == clusterset.Down })
			if snapshot.Cluster("c1").LastKnown.IsZero() {
				w.t.Error("a cluster that is away does not age")
			}
			if !serving("c1", "10.1.0.1")(snapshot) {
				w.t.Errorf("the endpoints of a cluster that is away are gone: %s", dump(snapshot))
			}
		},
		"a member that is back is read at once": func(w *world, server *memberapi.Server) {
			m := w.member("c1", up)
			server.Break(memberapi.Hang)
			gone := *m
			gone.Health = away
			w.roll.set(&gone)
			w.until("down", func(s *clusterset.Snapshot) bool { return s.Cluster("c1").ControlPlane == clusterset.Down })
			server.Set(memberapi.Slices, endpoints("web", "web-1", "10.1.0.7"))
			server.Break(memberapi.None)
			began := time.Now()
			w.roll.set(m)
			w.until("what changed meanwhile", serving("c1", "10.1.0.7"))
			if took := time.Since(began); took > 3*time.Second {
				w.t.Errorf("it took %s; the workers must not sit out their pauses", took)
			}
		},
		"renewed credentials take nothing away": func(w *world, server *memberapi.Server) {
			before, _ := w.watcher.Current()
			w.tokens["c1"] = "token-2"
			server.Fail(memberapi.Slices, memberapi.Refuse) // the new worker's list takes a while
			w.roll.set(w.member("c1", up))
			w.eventually("refused", func() bool { return w.watchState("c1", "EndpointSlice") == exports.StateUnreachable })
			w.until("what was known", serving("c1", "10.1.0.1"))
			server.Fail(memberapi.Slices, memberapi.None)
			w.eventually("in step", func() bool { return inStep(w) })
			if now, _ := w.watcher.Current(); now.Service(web) != before.Service(web) {
				w.t.Error("the service was built anew although nothing of it changed")
			}
		},
		"a member that leaves takes everything along": func(w *world, _ *memberapi.Server) {
			w.roll.drop("c1")
			w.until("nothing", func(s *clusterset.Snapshot) bool { return s.Len() == 0 && s.Cluster("c1") == nil })
			if len(w.watcher.Clusters()) != 0 {
				w.t.Errorf("there are still clusters: %+v", w.watcher.Clusters())
			}
		},
		"derived Services are imports and nothing else": func(w *world, server *memberapi.Server) {
			derived := service("hansa-abc")
			derived.Labels = map[string]string{api.SliceManagedByLabel: api.Controller, api.ServiceNameLabel: "web"}
			derived.Annotations = map[string]string{api.GatewayPortsAnnotation: "http/TCP=20017"}
			derived.Spec.ClusterIPs = []string{"10.96.0.7", "fd00::7"}
			server.Set(memberapi.Services, derived)
			server.Set(memberapi.Exports, export("hansa-abc"))
			slice := endpoints("web", "hansa-slice", "10.9.9.9")
			slice.Labels[discoveryv1.LabelManagedBy] = api.Controller
			server.Set(memberapi.Slices, slice)
			s := w.until("the import", func(s *clusterset.Snapshot) bool {
				return s.Service(web) != nil && len(s.Service(web).ClusterSetIPs("c1")) == 2
			})
			if got := s.Service(web).GatewayPort("c1", clusterset.Port{Name: "http", Protocol: corev1.ProtocolTCP}); got != 20017 {
				w.t.Errorf("the gateways take the port at %d", got)
			}
			if !serving("c1", "10.1.0.1")(s) {
				w.t.Errorf("endpoints that Hansa wrote came back to it: %s", dump(s))
			}
			w.until("the odd export", func(s *clusterset.Snapshot) bool {
				odd := s.Service(clusterset.Key{Namespace: "shop", Name: "hansa-abc"})
				return odd != nil && !odd.Exported()
			})
			server.Delete(memberapi.Services, "shop", "hansa-abc")
			w.until("no import", func(s *clusterset.Snapshot) bool { return len(s.Service(web).Imports) == 0 })
		},
		"zones come from nodes where slices do not say them": func(w *world, server *memberapi.Server) {
			server.Set(memberapi.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0", Labels: map[string]string{
				corev1.LabelTopologyZone: "a1", corev1.LabelTopologyRegion: "a",
			}}})
			s := w.until("the zone", func(s *clusterset.Snapshot) bool {
				service := s.Service(web)
				return service != nil && service.Sources[0].Endpoints.Groups[0].Endpoints[0].Zone.String() == "a1"
			})
			if c := s.Cluster("c1"); c.Region != "a" || c.Zone != "a1" {
				w.t.Errorf("the cluster stands in %q/%q, want a/a1", c.Region, c.Zone)
			}
		},
		"the ClusterProperty renames": func(w *world, server *memberapi.Server) {
			server.Install(memberapi.Properties)
			server.Set(memberapi.Properties, property("berlin"))
			w.until("the new id", func(s *clusterset.Snapshot) bool { return serving("berlin", "10.1.0.1")(s) && s.Cluster("c1") == nil })
			if id, _ := w.watcher.ClusterID("c1"); id != "berlin" {
				w.t.Errorf("the id is %q", id)
			}
			if m, found := w.watcher.Member("berlin"); !found || m.Name != "c1" {
				w.t.Error("the member is not found by its id")
			}
		},
		"people have the last word": func(w *world, _ *memberapi.Server) {
			w.watcher.SetInfo("c1", &v1alpha1.ClusterInfo{Spec: v1alpha1.ClusterInfoSpec{
				ClusterID: "paris", Network: "flat", Region: "fr", Zone: "fr-1", State: v1alpha1.Draining, DataPlane: v1alpha1.Down,
				Gateways: []v1alpha1.Gateway{{Address: "192.0.2.1"}},
			}})
			s := w.until("the facts", func(s *clusterset.Snapshot) bool { return s.Cluster("paris") != nil })
			c := s.Cluster("paris")
			if c.Network != "flat" || c.Region != "fr" || c.Zone != "fr-1" || c.State != clusterset.Draining || c.DataPlane != clusterset.Down ||
				len(c.Gateways) != 1 || c.Gateways[0].Port != 15443 {
				w.t.Errorf("the facts are %+v", c)
			}
		},
		"policies come and go": func(w *world, _ *memberapi.Server) {
			w.watcher.SetPolicy(web, &clusterset.Policy{MinHealthyPercent: 50})
			w.until("the policy", func(s *clusterset.Snapshot) bool { return s.Service(web).Policy != nil })
			w.watcher.SetPolicy(web, nil)
			w.until("no policy", func(s *clusterset.Snapshot) bool { return s.Service(web).Policy == nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, exports.Options{})
			server := w.serve("c1")
			offer(server, "web", "10.1.0.1")
			w.roll.set(w.member("c1", up))
			w.run()
			w.until("the service", serving("c1", "10.1.0.1"))
			story(w, server)
		})
	}
}

func property(id string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty", "spec": map[string]any{"value": id}}}
	u.SetName(api.ClusterIDProperty)
	return u
}

// TestReadiness tells when the first snapshot is made, beside a member that works: without waiting, or when patience ends.
func TestReadiness(t *testing.T) {
	const long = time.Hour
	for name, c := range map[string]struct {
		health   cluster.Health
		fault    memberapi.Fault
		slices   memberapi.Fault
		patience time.Duration
	}{
		"all well":                       {up, memberapi.None, memberapi.None, long},
		"known to be away":               {away, memberapi.Hang, memberapi.None, long},
		"forbidden":                      {up, memberapi.None, memberapi.Forbid, long},
		"a black hole of unknown health": {unknown, memberapi.Hang, memberapi.None, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complete := make(chan struct{})
			w := newWorld(t, exports.Options{Complete: complete, Patience: c.patience})
			offer(w.serve("c1"), "web", "10.1.0.1")
			odd := w.serve("c2")
			odd.Break(c.fault)
			odd.Fail(memberapi.Slices, c.slices)
			w.roll.set(w.member("c1", up), w.member("c2", c.health))
			w.run()
			w.eventually("c1 is read", func() bool { return w.state("c1").LastKnown.IsZero() && w.state("c1").ID != "" })
			select {
			case <-w.watcher.Ready():
				t.Fatal("there is a snapshot before the list of members is whole")
			default:
			}
			began := time.Now()
			close(complete)
			select {
			case <-w.watcher.Ready():
			case <-time.After(patience):
				t.Fatalf("there is no snapshot: %+v", w.watcher.Clusters())
			}
			if took := time.Since(began); c.patience != long && took < c.patience {
				t.Errorf("the first snapshot came after %s, before patience ended", took)
			}
			if s, _ := w.watcher.Current(); !serving("c1", "10.1.0.1")(s) {
				t.Errorf("the first snapshot lacks what is known: %s", dump(s))
			}
		})
	}
}

// archive is an Archive that holds records as given.
type archive struct {
	records []exports.Record
	err     error
}

func (a archive) Load(context.Context) ([]exports.Record, error) { return a.records, a.err }
func (a archive) Store(context.Context, *exports.Record) error   { return nil }
func (a archive) Retain(context.Context, []string) error         { return nil }

func TestRestore(t *testing.T) {
	// What the hub knew before it was restarted.
	before := newWorld(t, exports.Options{})
	offer(before.serve("c1"), "web", "10.1.0.1")
	before.roll.set(before.member("c1", up))
	before.run()
	before.until("the service", serving("c1", "10.1.0.1"))
	known := exports.KnownOf(before.watcher, "c1")
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	record := exports.Record{Member: "c1", UID: "c1", ID: "berlin", Time: at, Known: known}

	w := newWorld(t, exports.Options{Archive: archive{[]exports.Record{record}, errors.New("another object is corrupt")}})
	server := w.serve("c1")
	server.Break(memberapi.Hang)
	w.roll.set(w.member("c1", away))
	w.run()
	<-w.watcher.Ready()
	s, _ := w.watcher.Current()
	if !serving("berlin", "10.1.0.1")(s) {
		t.Fatalf("what was restored is not served: %s", dump(s))
	}
	if got := s.Cluster("berlin").LastKnown; !got.Equal(at) {
		t.Errorf("what was restored is of %s, want %s", got, at)
	}

	// It comes back, and half of what was is gone.
	server.Install(memberapi.Properties)
	server.Set(memberapi.Properties, property("berlin"))
	server.Set(memberapi.Services, service("web"))
	server.Set(memberapi.Exports, export("web"))
	server.Set(memberapi.Slices, endpoints("web", "web-7", "10.1.0.7"))
	server.Break(memberapi.None)
	w.roll.set(w.member("c1", up))
	w.until("the truth", serving("berlin", "10.1.0.7"))
	w.eventually("in step", func() bool { return w.state("c1").LastKnown.IsZero() && !w.state("c1").Restored })

	// A cluster of the same name that is another one gets nothing of it.
	other := newWorld(t, exports.Options{Archive: archive{records: []exports.Record{{Member: "c1", UID: "older", ID: "berlin", Time: at, Known: known}}}})
	other.serve("c1").Break(memberapi.Hang)
	other.roll.set(other.member("c1", away))
	other.run()
	<-other.watcher.Ready()
	if s, _ := other.watcher.Current(); s.Len() != 0 {
		t.Errorf("a new cluster got the services of an older one by the same name: %s", dump(s))
	}
}

func TestOneIDForOneCluster(t *testing.T) {
	for name, c := range map[string]struct {
		status string // who has the id according to ClusterInfo.status
		holder string
	}{
		"the first by name":               {"", "c1"},
		"the hub's objects have the say":  {"c2", "c2"},
		"the hub's objects agree with c1": {"c1", "c1"},
		"a stranger in the hub's objects": {"c9", "c1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, exports.Options{})
			for i, member := range []string{"c1", "c2"} {
				server := w.serve(member)
				offer(server, "web", []string{"10.1.0.1", "10.2.0.1"}[i])
				server.Install(memberapi.Properties)
				server.Set(memberapi.Properties, property("same"))
			}
			if c.status != "" {
				w.watcher.SetInfo(c.status, &v1alpha1.ClusterInfo{Status: v1alpha1.ClusterInfoStatus{ClusterID: "same"}})
			}
			w.roll.set(w.member("c1", up), w.member("c2", up))
			w.run()
			<-w.watcher.Ready()
			addresses := map[string]string{"c1": "10.1.0.1", "c2": "10.2.0.1"}
			w.until("the holder's endpoints alone", serving("same", addresses[c.holder]))
			for _, state := range w.watcher.Clusters() {
				if (state.ID == "same") != (state.Name == c.holder) || (state.Flaw == "") != (state.Name == c.holder) {
					t.Errorf("%s has id %q and flaw %q, and %s should have it", state.Name, state.ID, state.Flaw, c.holder)
				}
			}
			// The id becomes free.
			w.roll.drop(c.holder)
			rest := slices.DeleteFunc([]string{"c1", "c2"}, func(n string) bool { return n == c.holder })[0]
			w.until("the other's endpoints", serving("same", addresses[rest]))
		})
	}
}

func TestHostileProperty(t *testing.T) {
	w := newWorld(t, exports.Options{})
	server := w.serve("c1.example")
	offer(server, "web", "10.1.0.1")
	server.Install(memberapi.Properties)
	server.Set(memberapi.Properties, property("Not A Label!"))
	w.roll.set(w.member("c1.example", up))
	w.run()
	w.until("the id of the name", serving("c1-example", "10.1.0.1"))
	if flaw := w.state("c1.example").Flaw; flaw == "" {
		t.Error("nobody is told that the ClusterProperty is no id")
	}
}

// TestDeadClusterHoldsUpNoOne adds a member beside black holes.
func TestDeadClusterHoldsUpNoOne(t *testing.T) {
	w := newWorld(t, exports.Options{Patience: 100 * time.Millisecond})
	var members []*cluster.Member
	for _, name := range []string{"d1", "d2", "d3", "d4"} {
		w.serve(name).Break(memberapi.Hang)
		members = append(members, w.member(name, unknown))
	}
	w.roll.set(members...)
	w.run()
	<-w.watcher.Ready()
	offer(w.serve("c1"), "web", "10.1.0.1")
	began := time.Now()
	w.roll.put(w.member("c1", up))
	w.until("the service", serving("c1", "10.1.0.1"))
	if took := time.Since(began); took > 5*time.Second { // a worker gives up on a black hole after 10 s and more
		t.Errorf("a member beside four black holes took %s", took)
	}
}

// TestOneMember: an agent watches its own cluster, without any object of a hub. It sees imports of what others export.
func TestOneMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exports.Options{ClusterID: "berlin"})
	server := w.serve("c1")
	offer(server, "web", "10.1.0.1")
	derived := service("hansa-abc")
	derived.Labels = map[string]string{api.SliceManagedByLabel: api.Controller, api.ServiceNameLabel: "db"}
	derived.Annotations = map[string]string{api.GatewayPortsAnnotation: "http/TCP=20017"}
	server.Set(memberapi.Services, derived)
	server.Install(memberapi.Properties)
	server.Set(memberapi.Properties, property("somebody-else"))
	w.roll.set(w.member("c1", up))
	w.run()
	s := w.until("web", serving("berlin", "10.1.0.1"))
	db := s.Service(clusterset.Key{Namespace: "shop", Name: "db"})
	if db == nil || db.GatewayPort("berlin", clusterset.Port{Name: "http", Protocol: corev1.ProtocolTCP}) != 20017 {
		t.Errorf("the import of what others export is %+v", db)
	}
	if c := s.Cluster("berlin"); c == nil || len(s.Clusters()) != 1 {
		t.Errorf("the clusters are %s", dump(s))
	}
	w.until("in step", func(s *clusterset.Snapshot) bool { return s.Cluster("berlin").InStep() })
}
