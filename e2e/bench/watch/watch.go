// Package watch measures how the hub watches many members: the memory that a watched EndpointSlice takes, and how soon 100
// clusters are in the global table, without and with a dead one among them. The members are API servers in memory that speak
// the wire format of real ones; the Watcher is the hub's own.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

// The rows.
const (
	Memory = "watch-memory"
	Sync   = "watch-sync-100"
)

// What is watched.
const (
	slicesHeld = 10_000
	perSlice   = 10
	clusters   = 100
	perCluster = 10
	patience   = 2 * time.Minute
	namespace  = "bench"
	lookAgain  = 2 * time.Millisecond
)

// Options say what to run.
type Options struct {
	Runs int
	Only []string // rows; empty means both
	Out  io.Writer
}

// Run measures the rows.
func Run(ctx context.Context, o Options) ([]result.Row, error) {
	if o.Runs < 1 {
		return nil, errors.New("at least one run is needed")
	}
	ctrllog.SetLogger(logr.Discard())
	load := rig.LoadAverage()
	var rows []result.Row
	for _, part := range []struct {
		id  string
		run func(context.Context, Options) (*result.Figures, error)
	}{{Memory, memory}, {Sync, syncAll}} {
		if len(o.Only) > 0 && !slices.Contains(o.Only, part.id) {
			continue
		}
		figures, err := part.run(ctx, o)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", part.id, err)
		}
		figures.Load, figures.Time = result.Load{Average: load, Cores: runtime.NumCPU()}, time.Now().UTC().Format(time.RFC3339)
		rows = append(rows, result.Row{ID: part.id, Figures: figures})
	}
	return rows, nil
}

// memory measures what the heap grows by while a Watcher holds 10,000 slices: watched, and exported as well.
func memory(ctx context.Context, o Options) (*result.Figures, error) {
	var watched, exported, usual result.Runs
	for i := range o.Runs {
		for _, export := range []bool{false, true} {
			bytes, err := held(ctx, export)
			if err != nil {
				return nil, err
			}
			if export {
				exported = append(exported, bytes)
			} else {
				watched = append(watched, bytes)
			}
		}
		bytes, err := heldTyped(ctx)
		if err != nil {
			return nil, err
		}
		usual = append(usual, bytes)
		_, _ = fmt.Fprintf(o.Out, "%s run %d: %.0f bytes per watched slice of %d, %.0f with its exported service in the table; in a typed informer %.0f\n",
			Memory, i+1, watched[i], perSlice, exported[i], bytes)
	}
	f := result.Of(watched, usual, "B").With("exported_b", exported.Median()).
		With("endpoint_b", watched.Median()/perSlice).With("informer_endpoint_b", usual.Median()/perSlice)
	f.Note = "growth of the heap after collection; reference: a typed informer of client-go that holds the same; " +
		"exported: with the Service, the export and the published table; endpoint: per endpoint"
	return f, nil
}

// held returns the bytes per slice that a Watcher takes.
func held(ctx context.Context, export bool) (float64, error) {
	server := memberapi.New()
	defer server.Close()
	server.Install(memberapi.Exports)
	fill(server, "c1", slicesHeld, export)
	m, err := ready("c1", server)
	if err != nil {
		return 0, err
	}
	before := heap()
	w, stop := start(ctx, []*cluster.Member{m})
	defer stop()
	if err := await(ctx, w, 1); err != nil {
		return 0, err
	}
	bytes := float64(heap()-before) / slicesHeld
	runtime.KeepAlive(w)
	runtime.KeepAlive(server)
	return bytes, nil
}

func heap() int64 {
	for range 3 {
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // G115: far below
}

// syncAll measures how soon 100 clusters are in the table, all kinds listed, without and with a dead one.
func syncAll(ctx context.Context, o Options) (*result.Figures, error) {
	var servers []*memberapi.Server
	defer func() {
		for _, server := range servers {
			server.Close()
		}
	}()
	for i := range clusters + 1 {
		server := memberapi.New()
		server.Install(memberapi.Exports)
		servers = append(servers, server)
		if i == clusters {
			server.Break(memberapi.Hang)
			continue
		}
		fill(server, fmt.Sprintf("c%03d", i), perCluster, true)
	}
	var alone, beside, usual result.Runs
	for i := range o.Runs {
		for _, dead := range []bool{false, true} {
			took, err := once(ctx, servers, dead)
			if err != nil {
				return nil, err
			}
			if dead {
				beside = append(beside, took)
			} else {
				alone = append(alone, took)
			}
		}
		took, err := onceTyped(ctx, servers)
		if err != nil {
			return nil, err
		}
		usual = append(usual, took)
		_, _ = fmt.Fprintf(o.Out, "%s run %d: %.3f s, %.3f s beside a dead one; informers %.3f s\n", Sync, i+1, alone[i], beside[i], took)
	}
	f := result.Of(alone, usual, "s").With("dead_s", beside.Median()).With("dead_adds_s", max(0, beside.Median()-alone.Median()))
	f.Note = "five kinds on each of 100 clusters, TLS handshakes of both sides included; all on this machine; " +
		"reference: informers of client-go, all begun at once, on the four kinds that the clusters serve"
	return f, nil
}

func once(ctx context.Context, servers []*memberapi.Server, dead bool) (seconds float64, err error) {
	var members []*cluster.Member
	for i := range clusters {
		m, err := ready(fmt.Sprintf("c%03d", i), servers[i])
		if err != nil {
			return 0, err
		}
		members = append(members, m)
	}
	if dead {
		m, err := member("dead", servers[clusters], cluster.Health{Ready: corev1.ConditionUnknown})
		if err != nil {
			return 0, err
		}
		members = append(members, m)
	}
	runtime.GC()
	began := time.Now()
	w, stop := start(ctx, members)
	defer stop()
	if err := await(ctx, w, clusters); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// fixed is a list of members that stays as it is.
type fixed struct {
	members []*cluster.Member
	never   chan struct{}
}

func (f fixed) Current() ([]*cluster.Member, <-chan struct{}) { return f.members, f.never }

// start runs a Watcher until stop.
func start(ctx context.Context, members []*cluster.Member) (w *exports.Watcher, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	w = exports.NewWatcher(exports.Options{Members: fixed{members, make(chan struct{})}, Log: logr.Discard()})
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) }) // ends with ctx
	return w, func() {
		cancel()
		running.Wait()
	}
}

// await waits until so many clusters are in step, with all kinds listed or known not to be installed.
func await(ctx context.Context, w *exports.Watcher, want int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		states := w.Clusters()
		inStep := 0
		for i := range states {
			if complete(&states[i]) {
				inStep++
			}
		}
		if inStep >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clusters were in step after %s", inStep, want, patience)
		case <-tick.C:
		}
	}
}

func complete(state *exports.ClusterState) bool {
	for _, w := range state.Watches {
		if !w.Listed {
			return false
		}
	}
	return state.ID != "" && state.LastKnown.IsZero()
}

func ready(name string, server *memberapi.Server) (*cluster.Member, error) {
	return member(name, server, cluster.Health{Ready: corev1.ConditionTrue})
}

func member(name string, server *memberapi.Server, health cluster.Health) (*cluster.Member, error) {
	kfc := &corev1b1.KubeFedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1b1.KubeFedClusterSpec{APIEndpoint: server.URL(), CABundle: server.CA()},
	}
	secret := &corev1.Secret{Data: map[string][]byte{api.TokenKey: []byte("bench")}}
	return cluster.NewMember(kfc, secret, health)
}

// fill puts slices of ten endpoints into a server, with exported Services or alone.
func fill(server *memberapi.Server, clusterName string, slices int, export bool) {
	created := metav1.NewTime(time.Now())
	for i := range slices {
		service := fmt.Sprintf("service-%05d", i)
		server.Set(memberapi.Slices, slice(clusterName, service, i))
		if !export {
			continue
		}
		server.Set(memberapi.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
			},
		})
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": memberapi.Exports.GroupVersion().String(), "kind": "ServiceExport"}}
		u.SetNamespace(namespace)
		u.SetName(service)
		u.SetCreationTimestamp(created)
		server.Set(memberapi.Exports, u)
	}
}

func slice(clusterName, service string, number int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service + "-x7k2p", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for i := range perSlice {
		at := number*perSlice + i
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", at>>16, at>>8&255, at&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("%s-node-%03d", clusterName, at%300)), Zone: new(fmt.Sprintf("zone-%d", at%3)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", service, i), UID: types.UID(strconv.Itoa(at))},
		})
	}
	return s
}
