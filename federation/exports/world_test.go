package exports_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

const patience = 20 * time.Second

// roll is a list of members that tests write.
type roll struct {
	mu      sync.Mutex
	members []*cluster.Member
	changed chan struct{}
}

func (r *roll) Current() ([]*cluster.Member, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members, r.changed
}

func (r *roll) set(members ...*cluster.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b *cluster.Member) int { return strings.Compare(a.Name, b.Name) })
	r.members = members
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *roll) put(m *cluster.Member) {
	members, _ := r.Current()
	r.set(append(slices.DeleteFunc(slices.Clone(members), func(o *cluster.Member) bool { return o.Name == m.Name }), m)...)
}

func (r *roll) drop(name string) {
	members, _ := r.Current()
	r.set(slices.DeleteFunc(slices.Clone(members), func(o *cluster.Member) bool { return o.Name == name })...)
}

// world is a Watcher with members in memory.
type world struct {
	t       *testing.T
	roll    *roll
	watcher *exports.Watcher
	apis    map[string]*memberapi.Server
	tokens  map[string]string
}

func newWorld(t *testing.T, o exports.Options) *world {
	t.Helper()
	w := &world{t: t, roll: &roll{changed: make(chan struct{})}, apis: map[string]*memberapi.Server{}, tokens: map[string]string{}}
	o.Members = w.roll
	if o.Log == (logr.Logger{}) {
		o.Log = testr.New(t)
	}
	w.watcher = exports.NewWatcher(o)
	return w
}

// run runs the watcher until the test ends.
func (w *world) run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.watcher.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			w.t.Error("Run does not end with its context")
		}
	})
}

var (
	up      = cluster.Health{Ready: corev1.ConditionTrue, Offline: corev1.ConditionFalse}
	away    = cluster.Health{Ready: corev1.ConditionFalse, Offline: corev1.ConditionTrue}
	unknown = cluster.Health{Ready: corev1.ConditionUnknown, Offline: corev1.ConditionUnknown}
)

// serve makes the API server of a member, with MCS installed.
func (w *world) serve(name string) *memberapi.Server {
	w.t.Helper()
	server := memberapi.New()
	server.Install(memberapi.Exports)
	w.apis[name], w.tokens[name] = server, "token-1"
	w.t.Cleanup(server.Close)
	return server
}

// member returns a member as of now.
func (w *world) member(name string, health cluster.Health) *cluster.Member {
	w.t.Helper()
	server := w.apis[name]
	kfc := &corev1b1.KubeFedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "hansa", UID: types.UID(name)},
		Spec:       corev1b1.KubeFedClusterSpec{APIEndpoint: server.URL(), CABundle: server.CA(), SecretRef: corev1b1.LocalSecretReference{Name: name}},
	}
	secret := &corev1.Secret{Data: map[string][]byte{api.TokenKey: []byte(w.tokens[name])}}
	m, err := cluster.NewMember(kfc, secret, health)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// until waits for a snapshot that fits.
func (w *world) until(what string, fits func(*clusterset.Snapshot) bool) *clusterset.Snapshot {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		snapshot, changed := w.watcher.Current()
		if snapshot.Sequence() > 0 && fits(snapshot) {
			return snapshot
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("%s does not come; the snapshot is %s, the clusters are %+v", what, dump(snapshot), w.watcher.Clusters())
		}
	}
}

// eventually polls what no channel tells of.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%s does not hold; the clusters are %+v", what, w.watcher.Clusters())
		}
	}
}

func (w *world) state(name string) exports.ClusterState {
	w.t.Helper()
	for _, state := range w.watcher.Clusters() {
		if state.Name == name {
			return state
		}
	}
	return exports.ClusterState{}
}

// watchState returns the state of one watch of a member.
func (w *world) watchState(name, kind string) exports.State {
	w.t.Helper()
	for _, watch := range w.state(name).Watches {
		if watch.Kind == kind {
			return watch.State
		}
	}
	return ""
}

func dump(s *clusterset.Snapshot) string {
	text, err := json.Marshal(map[string]any{"services": s.Services(), "clusters": s.Clusters()})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// born is when exports of tests were created.
var born = metav1.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func export(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}}
	u.SetNamespace("shop")
	u.SetName(name)
	u.SetCreationTimestamp(born)
	return u
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
}

// endpoints is a slice of a service with ready endpoints.
func endpoints(service, slice string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: slice, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for i, address := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}, NodeName: new(fmt.Sprintf("node-%d", i)),
		})
	}
	return s
}

// offer exports a service with endpoints.
func offer(server *memberapi.Server, name string, addresses ...string) {
	server.Set(memberapi.Services, service(name))
	server.Set(memberapi.Slices, endpoints(name, name+"-1", addresses...))
	server.Set(memberapi.Exports, export(name))
}

var web = clusterset.Key{Namespace: "shop", Name: "web"}

// serving tells whether a cluster serves web at exactly these addresses.
func serving(cluster string, addresses ...string) func(*clusterset.Snapshot) bool {
	return func(s *clusterset.Snapshot) bool {
		service := s.Service(web)
		if service == nil || !service.Exported() {
			return len(addresses) == 0
		}
		var found []string
		for _, source := range service.Sources {
			if source.Cluster != cluster || source.Endpoints == nil {
				continue
			}
			for _, group := range source.Endpoints.Groups {
				for _, e := range group.Endpoints {
					found = append(found, e.Addr.String())
				}
			}
		}
		slices.Sort(found)
		return slices.Equal(found, addresses)
	}
}
