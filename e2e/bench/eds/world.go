package eds

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/federation/api"
)

// What is written to every member.
const (
	namespace  = "bench-eds"
	managedBy  = "hansa-bench" // marks the EndpointSlices that are the benchmark's own
	pods       = 9             // of a service in a cluster
	zones      = 3             // of a cluster
	port       = 80
	targetPort = 8080
	parallel   = 50 // requests under way
)

var exports = schema.GroupVersionResource{Group: api.MCSGroup, Version: "v1beta1", Resource: "serviceexports"}

// world is the services in the members, as the benchmark writes them.
type world struct {
	members  []string
	services int
	typed    []kubernetes.Interface // by member
	dynamic  []dynamic.Interface    // by member
}

// newWorld makes clients that speak as fast as they can: built-in kinds in protobuf, and no limit of requests per second.
func newWorld(members []string, services int, config func(member string) (*rest.Config, error)) (*world, error) {
	w := &world{members: members, services: services}
	for _, member := range members {
		c, err := config(member)
		if err != nil {
			return nil, err
		}
		c.UserAgent = managedBy
		plain, err := dynamic.NewForConfig(c)
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", member, err)
		}
		c = rest.CopyConfig(c)
		c.ContentType, c.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
		typed, err := kubernetes.NewForConfig(c)
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", member, err)
		}
		w.dynamic, w.typed = append(w.dynamic, plain), append(w.typed, typed)
	}
	return w, nil
}

func serviceName(number int) string { return fmt.Sprintf("s%04d", number) }

// hostOf is the global name of a service.
func hostOf(service int) string {
	return serviceName(service) + "." + namespace + ".svc." + api.ClustersetDomain
}

// podAddress is the address of a pod in the beginning. No two pods of all clusters share one.
func podAddress(member, service, pod int) string {
	number := service*pods + pod
	return fmt.Sprintf("10.%d.%d.%d", 10+member, number/250, number%250+1)
}

// marker is an address that no pod had before. All are equally long, so that none is the beginning of another one.
func marker(number int) string {
	const span = 150
	return fmt.Sprintf("10.%d.%d.%d", 100+number/span/span%span, 100+number/span%span, 100+number%span)
}

// load writes everything to all members.
func (w *world) load(ctx context.Context) error {
	for i, member := range w.members {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		if _, err := w.typed[i].CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating namespace %s in %s: %w", namespace, member, err)
		}
	}
	return inParallel(ctx, w.services*len(w.members), func(i int) error {
		member, service := i%len(w.members), i/len(w.members)
		if err := w.create(ctx, member, service); err != nil {
			return fmt.Errorf("creating service %s in %s: %w", serviceName(service), w.members[member], err)
		}
		return nil
	})
}

func (w *world) create(ctx context.Context, member, number int) error {
	name := serviceName(number)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: port}}},
	}
	if _, err := w.typed[member].CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := w.typed[member].DiscoveryV1().EndpointSlices(namespace).Create(ctx, w.slice(member, number), metav1.CreateOptions{}); err != nil {
		return err
	}
	export := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": exports.GroupVersion().String(), "kind": "ServiceExport", "metadata": map[string]any{"name": name, "namespace": namespace},
	}}
	_, err := w.dynamic[member].Resource(exports).Namespace(namespace).Create(ctx, export, metav1.CreateOptions{})
	return err
}

func (w *world) slice(member, number int) *discoveryv1.EndpointSlice {
	name := serviceName(number)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: sliceName(number), Labels: map[string]string{
			discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: managedBy,
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(targetPort))}},
	}
	for pod := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{podAddress(member, number, pod)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("%s-n%d", w.members[member], pod)),
			Zone:       new(zoneOf(w.members[member], pod)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, pod)},
		})
	}
	return s
}

func sliceName(service int) string { return serviceName(service) + "-1" }

func zoneOf(member string, number int) string { return fmt.Sprintf("%s-%c", member, 'a'+number%zones) }

// change is one pod's address that becomes another one.
type change struct {
	member, service int
	address         string
}

// spread returns so many changes, each of another service while there are enough, over all members in turn. first is the
// number of the first of them in the whole run.
func (w *world) spread(first, count int) []change {
	changes := make([]change, count)
	for i := range changes {
		n := first + i
		changes[i] = change{member: n % len(w.members), service: n % w.services, address: marker(n)}
	}
	return changes
}

func (c change) expected() clients.Change {
	return clients.Change{Host: hostOf(c.service), Address: c.address}
}

// apply writes a change, and returns when the request was sent, in nanoseconds since 1970.
func (w *world) apply(ctx context.Context, c change) (int64, error) {
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/endpoints/0/addresses/0", "value": c.address}})
	if err != nil {
		return 0, fmt.Errorf("encoding a patch: %w", err)
	}
	sent := time.Now().UnixNano()
	_, err = w.typed[c.member].DiscoveryV1().EndpointSlices(namespace).Patch(ctx, sliceName(c.service), types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return 0, fmt.Errorf("changing EndpointSlice %s in %s: %w", sliceName(c.service), w.members[c.member], err)
	}
	return sent, nil
}

// applyAll writes changes as fast as it can, and returns when each request was sent.
func (w *world) applyAll(ctx context.Context, changes []change) ([]int64, error) {
	sent := make([]int64, len(changes))
	err := inParallel(ctx, len(changes), func(i int) (err error) {
		sent[i], err = w.apply(ctx, changes[i])
		return err
	})
	return sent, err
}

// inParallel does count things, some at a time. The first error ends it.
func inParallel(ctx context.Context, count int, do func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < count && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}
