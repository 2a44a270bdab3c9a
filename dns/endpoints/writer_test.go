package endpoints_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"

	"github.com/hansa-dev/hansa/dns/endpoints"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// scene is a hub and its host cluster, in the bubble of a test.
type scene struct {
	t       *testing.T
	host    *store
	builder *clusterset.Builder
	latest  *clusterset.Latest
	ready   chan struct{}

	mu      sync.Mutex
	members []*cluster.Member
	changed chan struct{}
	unknown map[string]bool // members whose id is not known
	log     []string

	stop context.CancelFunc
	done chan struct{}
}

// inScene runs a story with the members m1 and m2, which serve web, and the namespace shop in the host cluster. The story
// starts the hub.
func inScene(t *testing.T, story func(*scene)) {
	t.Helper()
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, false) // the store cannot stream lists
	synctest.Test(t, func(t *testing.T) {
		s := &scene{
			t: t, host: newStore(), builder: two(), ready: make(chan struct{}), changed: make(chan struct{}), unknown: map[string]bool{},
			members: []*cluster.Member{{Name: "m1"}, {Name: "m2"}},
		}
		s.latest = clusterset.NewLatest(nil)
		s.namespace(hub)
		s.namespace("shop")
		close(s.ready)
		story(s)
		s.shut()
	})
}

func (s *scene) namespace(name string) {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	object.SetName(name)
	s.host.put(namespaces, object)
}

func (s *scene) Current() ([]*cluster.Member, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members, s.changed
}

func (s *scene) id(member string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return member, !s.unknown[member]
}

func (s *scene) start() {
	log := funcr.New(func(_, args string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = append(s.log, args)
	}, funcr.Options{})
	w, err := endpoints.New(endpoints.Options{
		Zones: zones[:1], Client: client{s.host}, Namespace: hub, Snapshots: s.latest, Members: s, ClusterID: s.id, Ready: s.ready, Log: log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	s.stop, s.done = cancel, make(chan struct{})
	go func() {
		defer close(s.done)
		if err := w.Start(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	s.pass(5 * time.Second) // watches begin after their list
}

func (s *scene) shut() {
	if s.stop != nil {
		s.stop()
		<-s.done
		s.stop = nil
	}
}

func (s *scene) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// publish gives the hub a snapshot and waits until it has done what it can.
func (s *scene) publish() {
	s.latest.Publish(s.builder.Publish())
	s.pass(3 * time.Second)
}

// expect compares the writes since the last time, and what is at a place then.
func (s *scene) expect(why string, writes []string, at string, lines ...string) {
	s.t.Helper()
	if diff := cmp.Diff(writes, s.host.written()); diff != "" {
		s.t.Errorf("%s: writes:\n%s", why, diff)
	}
	if at == "" {
		return
	}
	var got []string
	if object := s.host.get(endpoints.Resource, place(at)); object != nil {
		got = linesOf(object)
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		s.t.Errorf("%s: %s:\n%s", why, at, diff)
	}
}

func place(at string) types.NamespacedName {
	namespace, name, _ := strings.Cut(at, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// told returns what was logged since it was asked last and has a text in it.
func (s *scene) told(text string) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if strings.Contains(line, text) {
			count++
		}
	}
	s.log = nil
	return count
}

const (
	at  = "shop/web.shop"
	aaa = "web.shop.global.example.org 5 AAAA 2001:db8::2"
)

func TestWriterFollows(t *testing.T) {
	inScene(t, func(s *scene) {
		s.publish()
		s.start()
		s.expect("what is known at the start", []string{"create " + at}, at, nowBoth, aaa)

		s.shut()
		s.start()
		s.expect("a restart without news", nil, at, nowBoth, aaa)

		s.builder.SetCluster(inStep("m2", "", "192.0.2.2"))
		s.latest.Publish(s.builder.Publish())
		s.pass(200 * time.Millisecond)
		s.builder.SetCluster(inStep("m2", "", "192.0.2.3"))
		s.publish()
		s.expect("changes that follow each other are one write", []string{"update " + at}, at, "web.shop.global.example.org 5 A 192.0.2.1 192.0.2.3")

		s.builder.RemoveExport("m1", web)
		s.builder.RemoveExport("m2", web)
		s.publish()
		s.expect("nobody exports it any more", []string{"delete " + at}, at)
	})
}

func TestWriterMends(t *testing.T) {
	inScene(t, func(s *scene) {
		s.publish()
		s.start()
		s.expect("the start", []string{"create " + at}, "")

		s.host.put(endpoints.Resource, published("shop", nowA))
		s.pass(3 * time.Second)
		s.expect("somebody changed it", []string{"update " + at}, at, nowBoth, aaa)

		s.host.drop(endpoints.Resource, place(at))
		s.pass(3 * time.Second)
		s.expect("somebody deleted it", []string{"create " + at}, at, nowBoth, aaa)

		copied := published("other", nowA)
		s.host.put(endpoints.Resource, copied)
		s.pass(3 * time.Second)
		s.expect("a copy elsewhere is not the hub's matter, whatever its labels", nil, "other/web.shop", nowA)

		for range 100 { // ten seconds
			s.host.put(endpoints.Resource, published("shop", nowA))
			s.pass(100 * time.Millisecond)
		}
		if n := len(s.host.written()); n > 11 {
			t.Errorf("a quarrel with another writer made %d writes in 10 s", n)
		}
	})
}

func TestWriterMoves(t *testing.T) {
	inScene(t, func(s *scene) {
		s.host.drop(namespaces, types.NamespacedName{Name: "shop"})
		s.publish()
		s.start()
		s.expect("without a namespace of its own", []string{"create hansa-system/web.shop"}, "hansa-system/web.shop", nowBoth, aaa)

		s.namespace("shop")
		s.pass(3 * time.Second)
		s.expect("the namespace comes", []string{"create " + at, "delete hansa-system/web.shop"}, at, nowBoth, aaa)

		namespace := s.host.get(namespaces, types.NamespacedName{Name: "shop"})
		namespace.SetDeletionTimestamp(&metav1.Time{Time: time.Now()})
		s.host.put(namespaces, namespace)
		s.pass(3 * time.Second)
		s.expect("the namespace is about to go", []string{"create hansa-system/web.shop", "delete " + at}, "hansa-system/web.shop", nowBoth, aaa)
	})
}

func TestWriterLeavesOthersAlone(t *testing.T) {
	inScene(t, func(s *scene) {
		theirs := published("shop", nowA)
		theirs.SetLabels(nil)
		s.host.put(endpoints.Resource, theirs)
		unrelated := published("shop", nowA)
		unrelated.SetName("web")
		s.host.put(endpoints.Resource, unrelated)
		s.publish()
		s.start()
		s.pass(10 * time.Minute)
		s.expect("the name is taken", nil, at, nowA)
		if n := s.told("not Hansa's"); n < 1 || n > 11 {
			t.Errorf("told %d times in 10 minutes that the name is taken", n)
		}
		s.builder.RemoveExport("m1", web)
		s.builder.RemoveExport("m2", web)
		s.publish()
		s.expect("what is not the hub's is not deleted", nil, at, nowA)

		serve(s.builder, "m1", web)
		s.publish()
		s.host.drop(endpoints.Resource, place(at))
		s.pass(2 * time.Minute)
		s.expect("the name is free", []string{"create " + at}, at, nowA)

		object := s.host.get(endpoints.Resource, place(at))
		object.SetLabels(nil)
		s.host.put(endpoints.Resource, object)
		s.pass(2 * time.Minute)
		s.expect("without the label it is the hub's no more", nil, at, nowA)
	})
}

// TestWriterWaits: nothing is written, and above all nothing deleted, before it is known what there should be.
func TestWriterWaits(t *testing.T) {
	inScene(t, func(s *scene) {
		s.host.put(endpoints.Resource, published("shop", nowBoth, aaa))
		s.ready = make(chan struct{})
		s.builder = clusterset.NewBuilder(0)
		s.publish()
		s.start()
		s.pass(time.Minute)
		s.expect("the snapshots are not complete yet", nil, at, nowBoth, aaa)

		s.latest.Publish(nil)
		close(s.ready)
		s.pass(time.Minute)
		s.expect("there is no snapshot", nil, at, nowBoth, aaa)

		s.unknown["m2"] = true
		s.builder.SetCluster(inStep("m1", "", "192.0.2.1"))
		s.publish()
		s.expect("m1 is known to serve nothing; of m2 nothing is known", []string{"update " + at}, at, "web.shop.global.example.org 5 A 192.0.2.2", aaa)

		s.mu.Lock()
		s.unknown["m2"] = false
		s.mu.Unlock()
		s.builder.SetCluster(lost("m2"))
		s.publish()
		s.expect("m2 is known, and its API does not answer", nil, at, "web.shop.global.example.org 5 A 192.0.2.2", aaa)

		s.builder.SetCluster(inStep("m2", "", "192.0.2.2", "2001:db8::2"))
		serve(s.builder, "m2", web)
		s.publish()
		s.expect("m2 is back and serves", nil, at, "web.shop.global.example.org 5 A 192.0.2.2", aaa)
	})
}

// TestWriterForgetsMembers: what was kept for a member goes when the member does.
func TestWriterForgetsMembers(t *testing.T) {
	inScene(t, func(s *scene) {
		s.host.put(endpoints.Resource, published("shop", nowBoth, aaa))
		s.unknown["m2"] = true
		s.builder = clusterset.NewBuilder(0)
		s.builder.SetCluster(inStep("m1", "", "192.0.2.1"))
		serve(s.builder, "m1", web)
		s.publish()
		s.start()
		s.expect("nothing is known of m2", nil, at, nowBoth, aaa)

		s.mu.Lock()
		s.members = s.members[:1]
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		s.pass(3 * time.Second)
		s.expect("m2 was unjoined", []string{"update " + at}, at, nowA)
	})
}

// TestWriterWithoutKind: the host cluster does not know DNSEndpoints, then it does, then it does not.
func TestWriterWithoutKind(t *testing.T) {
	inScene(t, func(s *scene) {
		s.host.lacks = true
		s.publish()
		s.start()
		s.pass(10 * time.Minute)
		if n := s.told("does not know DNSEndpoints"); n != 1 {
			t.Errorf("told %d times that the kind is missing", n)
		}
		if n := s.told(""); n > 0 {
			t.Errorf("and %d things more", n)
		}
		s.host.mu.Lock()
		if lists := s.host.lists; lists < 10 || lists > 300 {
			t.Errorf("looked %d times in 10 minutes", lists)
		}
		s.host.lacks = false
		s.host.mu.Unlock()
		s.pass(30 * time.Second)
		s.expect("the kind was installed", []string{"create " + at}, at, nowBoth, aaa)
		if n := s.told("Publishing names"); n != 1 {
			t.Errorf("told %d times that names are published", n)
		}
	})
}

// TestWriterMayNotRead: as long as anything of what is there is hidden, nothing is written, and it is told once what to grant.
func TestWriterMayNotRead(t *testing.T) {
	for _, hidden := range []schema.GroupVersionResource{namespaces, endpoints.Resource} {
		inScene(t, func(s *scene) {
			s.host.forbids = map[schema.GroupVersionResource]bool{hidden: true}
			s.publish()
			s.start()
			s.pass(10 * time.Minute)
			s.expect(hidden.Resource+" are hidden", nil, "")
			s.mu.Lock()
			told := slices.Clone(s.log)
			s.mu.Unlock()
			if len(told) != 1 || !strings.Contains(told[0], "list and watch on "+hidden.GroupResource().String()) {
				t.Errorf("told %q, want once what to grant", told)
			}
			s.host.mu.Lock()
			s.host.forbids = nil
			s.host.mu.Unlock()
			s.pass(30 * time.Second)
			s.expect(hidden.Resource+" may be read", []string{"create " + at}, at, nowBoth, aaa)
		})
	}
}

// TestCollectors: writes and failures are counted.
func TestCollectors(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(endpoints.Collectors()...)
	count := func() (sum float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue()
			}
		}
		return sum
	}
	inScene(t, func(s *scene) {
		before := count()
		s.publish()
		s.start()
		if got := count() - before; got != 1 {
			t.Errorf("one write counts %v", got)
		}
		s.host.mu.Lock()
		s.host.refuse = apierrors.NewForbidden(endpoints.Resource.GroupResource(), "", errors.New("no"))
		s.host.mu.Unlock()
		s.builder.RemoveExport("m2", web)
		s.publish()
		if got := count() - before; got < 2 {
			t.Errorf("one write and a failure count %v", got)
		}
	})
}

// TestWriterRefused: an API server that refuses writes is asked less and less often, and it is not told for each service.
func TestWriterRefused(t *testing.T) {
	inScene(t, func(s *scene) {
		for i := range 50 {
			serve(s.builder, "m1", clusterset.Key{Namespace: "shop", Name: fmt.Sprint("s", i)})
		}
		s.host.refuse = apierrors.NewForbidden(endpoints.Resource.GroupResource(), "", errors.New("no"))
		s.publish()
		s.start()
		s.pass(10 * time.Minute)
		if n := s.told("not published"); n < 1 || n > 11 {
			t.Errorf("told %d times in 10 minutes", n)
		}
		s.host.mu.Lock()
		s.host.refuse = nil
		s.host.mu.Unlock()
		s.pass(2 * time.Minute)
		if n := len(s.host.written()); n != 51 {
			t.Errorf("%d writes after it was granted, want 51", n)
		}
	})
}

func TestNewRefusesZones(t *testing.T) {
	for text, want := range map[string]string{
		"global.example.org":           "",
		"Global.Example.org.,other.de": "",
		"clusterset.local.":            "that of global names",
		"a.org,A.ORG.":                 "given twice",
		".":                            "below the root",
		"a..org":                       `zone "a..org"`,
	} {
		_, err := endpoints.New(endpoints.Options{
			Zones: strings.Split(text, ","), Client: client{newStore()}, Namespace: hub, Snapshots: clusterset.NewLatest(nil), Members: &scene{},
			ClusterID: func(string) (string, bool) { return "", false },
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("zones %s: %v, want %q", text, err, want)
		}
	}
	if _, err := endpoints.New(endpoints.Options{Zones: zones}); err == nil {
		t.Error("a writer without anything was made")
	}
	if !slices.Equal(zones, []string{"global.example.org", "example.net"}) {
		t.Error("zones were modified")
	}
}
