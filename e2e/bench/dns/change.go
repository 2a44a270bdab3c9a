package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// What is written to the cluster that serves, and how it is changed.
const (
	changing       = 300 // headless services
	changes        = 100 // of one run
	serving        = "m1"
	asking         = "m2"
	namespace      = "bench-dns"
	parallel       = 30                    // requests under way
	breather       = 60 * time.Millisecond // between two changes: longer than the hub waits for further ones
	peek           = 200 * time.Microsecond
	changePatience = 30 * time.Second
	loadPatience   = 2 * time.Minute
)

// The kinds that are written.
var (
	namespaces   = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	coreServices = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	slicesOf     = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	exports      = schema.GroupVersionResource{Group: api.MCSGroup, Version: "v1beta1", Resource: "serviceexports"}
	clusterInfos = v1alpha1.GroupVersion.WithResource("clusterinfos")
)

// stage is a lab with the hub program, the services, and the DNS server of the cluster that asks.
type stage struct {
	*rig.Rig

	xds  string
	addr netip.AddrPort
	dns  *server
	feed *rig.Feed
}

// change is the row of how soon answers change.
func change(ctx context.Context, b *bench) (_ *result.Figures, _ string, err error) {
	port, err := lab.NewPorts(nil).Free()
	if err != nil {
		return nil, "", err
	}
	s := &stage{xds: "127.0.0.1:" + strconv.Itoa(port)}
	s.Rig, err = rig.UpWith(ctx, rig.Options{Members: 2, HubArgs: []string{"--xds-addr=" + s.xds, "--xds-advertise=" + s.xds}, Out: b.Out})
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, s.Down(ctx)) }()
	watched, unwatch := context.WithCancel(ctx)
	defer unwatch()
	if err := s.load(ctx); err != nil {
		return nil, "", err
	}
	if s.feed, err = s.Follow(watched, slicesOf, namespace, serving); err != nil {
		return nil, "", err
	}
	defer func() {
		if s.dns != nil {
			s.dns.stop()
		}
	}()
	if err := s.serve(ctx, b); err != nil {
		return nil, "", err
	}
	f, err := s.figures(ctx, b)
	return f, "", err
}

// load writes the services, and says that the clusters' Pods reach each other.
func (s *stage) load(ctx context.Context) error {
	for _, member := range s.Members {
		client, err := s.Client(member)
		if err != nil {
			return err
		}
		space := manifest("v1", "Namespace", namespace, nil)
		if _, err := client.Resource(namespaces).Create(ctx, space, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating namespace %s in %s: %w", namespace, member, err)
		}
	}
	if err := s.describe(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	turns := make(chan struct{}, parallel)
	var writers sync.WaitGroup
	for i := range changing {
		turns <- struct{}{}
		writers.Go(func() {
			defer func() { <-turns }()
			if err := s.create(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	writers.Wait()
	return context.Cause(ctx)
}

// describe says of all members that they are on one network, once the hub has their ClusterInfos.
func (s *stage) describe(ctx context.Context) error {
	client, err := s.Client(lab.Hub)
	if err != nil {
		return err
	}
	infos := client.Resource(clusterInfos).Namespace(api.DefaultNamespace)
	return until(ctx, loadPatience, func() error {
		for _, member := range s.Members {
			if _, err := infos.Patch(ctx, member, types.MergePatchType, []byte(`{"spec":{"network":"flat"}}`), metav1.PatchOptions{}); err != nil {
				return fmt.Errorf("describing %s: %w", member, err)
			}
		}
		return nil
	})
}

// create writes one service with its endpoints.
func (s *stage) create(ctx context.Context, number int) error {
	client, err := s.Client(serving)
	if err != nil {
		return err
	}
	name := changingName(number)
	ports := []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(port)}}
	var found []any
	for i := range endpoints {
		found = append(found, map[string]any{
			"addresses":  []any{fmt.Sprintf("10.%d.%d.%d", 64+number/250, number%250, i+1)},
			"conditions": map[string]any{"ready": true},
		})
	}
	slice := manifest("discovery.k8s.io/v1", "EndpointSlice", name, map[string]any{"addressType": "IPv4", "ports": ports, "endpoints": found})
	slice.SetLabels(map[string]string{"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "hansa-bench"})
	for _, each := range []struct {
		resource schema.GroupVersionResource
		object   *unstructured.Unstructured
	}{
		{coreServices, manifest("v1", "Service", name, map[string]any{"spec": map[string]any{"clusterIP": "None", "ports": ports}})},
		{slicesOf, slice},
		{exports, manifest(exports.GroupVersion().String(), "ServiceExport", name, nil)},
	} {
		if _, err := client.Resource(each.resource).Namespace(namespace).Create(ctx, each.object, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating %s %s: %w", each.object.GetKind(), name, err)
		}
	}
	return nil
}

func manifest(apiVersion, kind, name string, content map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	maps.Copy(o.Object, content)
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetName(name)
	return o
}

func changingName(number int) string { return fmt.Sprintf("s%04d", number) }

func changingHost(number int) string {
	return changingName(number) + "." + namespace + ".svc." + apex
}

// serve starts the DNS server of the cluster that asks, and waits until it knows all services.
func (s *stage) serve(ctx context.Context, b *bench) (err error) {
	certificates := filepath.Join(s.Dir(), "dns-certificates")
	if err := os.MkdirAll(certificates, 0o700); err != nil {
		return fmt.Errorf("making a folder for certificates: %w", err)
	}
	err = until(ctx, loadPatience, func() error {
		_, err := s.Hansa(ctx, "xds", "bootstrap", "--cluster="+asking, "--dir="+certificates, "--host-cluster-context="+lab.Hub)
		return err
	})
	if err != nil {
		return err
	}
	if s.addr, err = free(ctx); err != nil {
		return err
	}
	hansa, err := build(ctx, b.dir)
	if err != nil {
		return err
	}
	s.dns, err = start(ctx, "hansa", s.addr, hansa, "dns", "--addr="+s.addr.String(), "--hub="+s.xds, "--cluster="+asking,
		"--state-dir="+filepath.Join(b.dir, "state"), "--tls-dir="+certificates, "--metrics-addr=0")
	if err != nil {
		return err
	}
	p, err := newPeeker(ctx, s.addr)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	err = until(ctx, loadPatience, func() error {
		for i := range changing {
			if found, err := p.look(changingHost(i)); err != nil || len(found) != endpoints {
				return fmt.Errorf("%s has %d addresses: %w", changingHost(i), len(found), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.Quiet(ctx)
}

// figures makes the changes and sums them up.
func (s *stage) figures(ctx context.Context, b *bench) (*result.Figures, error) {
	var whole, event, after, p99 result.Runs
	for run := range b.Runs {
		var own result.Runs
		for i := range changes {
			seen, answered, err := s.one(ctx, run*changes+i)
			if err != nil {
				return nil, err
			}
			own, event, after = append(own, milliseconds(answered)), append(event, milliseconds(seen)), append(after, milliseconds(answered-seen))
			if err := pause(ctx, breather); err != nil {
				return nil, err
			}
		}
		whole, p99 = append(whole, own...), append(p99, result.Percentile(own, 99))
		s.Say("%s run %d: %d changes, answers p50 %.2f ms, p99 %.2f ms after the request", changeRow, run+1, len(own), own.Median(), p99[run])
	}
	f := result.Of(whole, event, "ms").With("p99_ms", result.Percentile(whole, 99)).With("event_p99_ms", result.Percentile(event, 99)).
		With("after_event_p50_ms", after.Median()).With("after_event_p99_ms", result.Percentile(after, 99)).With("services", changing)
	f.Runs, f.Load = b.Runs, s.Load(0)
	f.Note = "the hub and the DNS server are programs: from the request to the API server of " + serving + " that changes an endpoint of a headless service, until the DNS server of " +
		asking + " has the new address in an answer over UDP; reference: until a bare watch has the event; after_event: from the event to the answer, which may come first"
	return f, nil
}

// one changes an endpoint of a service, and returns how long it took to the event and to the answer.
func (s *stage) one(ctx context.Context, number int) (seen, answered time.Duration, err error) {
	client, err := s.Client(serving)
	if err != nil {
		return 0, 0, err
	}
	name, host := changingName(number%changing), changingHost(number%changing)
	marker := fmt.Sprintf("10.%d.%d.%d", 128+number/60_000, number/250%250, number%250+1)
	p, err := newPeeker(ctx, s.addr)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = p.Close() }()
	tally := s.feed.Expect(1, func(e rig.Event) bool {
		return e.Object.GetName() == name && strings.Contains(fmt.Sprint(e.Object.Object["endpoints"]), marker+"]")
	})
	type answer struct {
		at  time.Time
		err error
	}
	answers := make(chan answer, 1)
	limited, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	go func() {
		at, err := p.await(limited, host, marker)
		answers <- answer{at, err}
	}()
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/0/addresses/0","value":%q}]`, marker)
	requested := time.Now()
	_, err = client.Resource(slicesOf).Namespace(namespace).Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		cancel()
		<-answers
		tally.Close()
		return 0, 0, fmt.Errorf("changing EndpointSlice %s: %w", name, err)
	}
	at, err := tally.Wait(ctx, changePatience)
	if err != nil {
		cancel()
	}
	got := <-answers
	return at.Sub(requested), got.at.Sub(requested), errors.Join(err, got.err)
}
