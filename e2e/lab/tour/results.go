package tour

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/config/samples"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/overrides"
)

// States of a member besides the reason why it is not ready.
const (
	stateAbsent = "is not joined"
	stateReady  = "is ready"
)

// client reads objects of one cluster.
type client struct {
	dynamic.Interface
}

func (t Tour) client(cluster string) (client, error) {
	c, err := t.Lab.Cluster(cluster)
	if err != nil {
		return client{}, err
	}
	config, err := c.RESTConfig()
	if err != nil {
		return client{}, err
	}
	made, err := dynamic.NewForConfig(config)
	if err != nil {
		return client{}, fmt.Errorf("making a client for cluster %s: %w", cluster, err)
	}
	return client{made}, nil
}

// memberState tells whether the hub knows a member and finds it ready, and why not.
func (c client) memberState(ctx context.Context, name string) (string, error) {
	gvr := corev1b1.SchemeGroupVersion.WithResource("kubefedclusters")
	obj, err := c.Resource(gvr).Namespace(api.DefaultNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return stateAbsent, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading KubeFedCluster %s: %w", name, err)
	}
	ready := condition(obj.Object, "Ready")
	switch {
	case ready == nil:
		return "is not probed yet", nil
	case ready["status"] == "True":
		return stateReady, nil
	default:
		return fmt.Sprintf("is not ready: %v: %v", ready["reason"], ready["message"]), nil
	}
}

// condition returns the condition of a type from an object's status, nil if there is none.
func condition(object map[string]any, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(object, "status", "conditions")
	for _, item := range conditions {
		if c, ok := item.(map[string]any); ok && c["type"] == kind {
			return c
		}
	}
	return nil
}

// results reads what became of the sample application.
type results struct {
	host    client
	members map[string]client
	sample  []*unstructured.Unstructured // federated objects as they were applied
}

func (t Tour) results() (*results, error) {
	r := &results{members: map[string]client{}}
	var err error
	if r.host, err = t.client("hub"); err != nil {
		return nil, err
	}
	for _, member := range members {
		if r.members[member], err = t.client(member); err != nil {
			return nil, err
		}
	}
	r.sample, err = federatedSamples()
	return r, err
}

// federatedSamples parses the federated objects of the sample application, in order.
func federatedSamples() ([]*unstructured.Unstructured, error) {
	data, err := samples.YAML()
	if err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
		obj := &unstructured.Unstructured{}
		err := docs.Decode(obj)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parsing the samples: %w", err)
		}
		if obj.GroupVersionKind().Group == api.FederatedGroup {
			found = append(found, obj)
		}
	}
}

// row is one object in one cluster.
type row struct {
	kind, name, cluster string
	differs             string // values that overrides change in any cluster, as they are in this one
	pending             string // why this is not the final state; "" when it is
}

// rows reads all sample objects in all members.
func (r *results) rows(ctx context.Context) ([]row, error) {
	types, err := r.types(ctx)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, sample := range r.sample {
		tc, ok := types[sample.GetKind()]
		if !ok {
			return nil, fmt.Errorf("no FederatedTypeConfig makes the kind %s", sample.GetKind())
		}
		obj, err := r.host.Resource(gvr(tc.federated())).Namespace(sample.GetNamespace()).Get(ctx, sample.GetName(), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", sample.GetKind(), sample.GetName(), err)
		}
		patches, err := overrides.Parse(obj.Object)
		if err != nil {
			return nil, fmt.Errorf("overrides of %s %s: %w", sample.GetKind(), sample.GetName(), err)
		}
		for _, member := range members {
			one, err := r.row(ctx, tc.target(), obj, patches, member)
			if err != nil {
				return nil, err
			}
			rows = append(rows, one)
		}
	}
	return rows, nil
}

// row reads one object in one member and compares it with what the federated object wants there.
func (r *results) row(ctx context.Context, target metav1.APIResource, federated *unstructured.Unstructured, patches overrides.Overrides, member string) (row, error) {
	one := row{kind: target.Kind, name: federated.GetName(), cluster: member}
	var where dynamic.ResourceInterface = r.members[member].Resource(gvr(target))
	if target.Namespaced {
		where = r.members[member].Resource(gvr(target)).Namespace(federated.GetNamespace())
	}
	obj, err := where.Get(ctx, federated.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		one.pending = propagation(federated.Object, member)
		if one.pending == "" {
			one.pending = "does not exist yet"
		}
		return one, nil
	}
	if err != nil {
		return one, fmt.Errorf("reading %s %s in %s: %w", target.Kind, one.name, member, err)
	}
	one.differs = differences(target.Kind, obj.Object, patches)
	one.pending = propagation(federated.Object, member)
	if wrong := mismatch(obj.Object, patches[member]); wrong != "" {
		one.pending = wrong
	}
	return one, nil
}

// types maps federated kinds to what the hub knows about them.
func (r *results) types(ctx context.Context) (map[string]typeConfig, error) {
	configs, err := r.host.Resource(corev1b1.SchemeGroupVersion.WithResource("federatedtypeconfigs")).
		Namespace(api.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the federated types: %w", err)
	}
	types := map[string]typeConfig{}
	for _, config := range configs.Items {
		tc := typeConfig{config.Object}
		types[tc.federated().Kind] = tc
	}
	return types, nil
}

// typeConfig reads the two types of a FederatedTypeConfig.
type typeConfig struct{ object map[string]any }

// target is the type that members have.
func (t typeConfig) target() metav1.APIResource { return t.resource("targetType") }

// federated is the type that the host cluster has.
func (t typeConfig) federated() metav1.APIResource { return t.resource("federatedType") }

func (t typeConfig) resource(field string) metav1.APIResource {
	get := func(name string) string {
		value, _, _ := unstructured.NestedString(t.object, "spec", field, name)
		return value
	}
	return metav1.APIResource{
		Group: get("group"), Version: get("version"), Kind: get("kind"), Name: get("pluralName"),
		Namespaced: get("scope") == "Namespaced",
	}
}

func gvr(r metav1.APIResource) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Name}
}

// propagation tells what the hub says is missing for a federated object in a member, "" if nothing is.
func propagation(object map[string]any, member string) string {
	generation, _, _ := unstructured.NestedInt64(object, "metadata", "generation")
	observed, _, _ := unstructured.NestedInt64(object, "status", "observedGeneration")
	if observed != generation {
		return "the hub has not looked at it yet"
	}
	clusters, _, _ := unstructured.NestedSlice(object, "status", "clusters")
	i := slices.IndexFunc(clusters, func(item any) bool {
		c, ok := item.(map[string]any)
		return ok && c["name"] == member
	})
	if i < 0 {
		return "the hub has not placed it there"
	}
	cluster, _ := clusters[i].(map[string]any)
	if status, _ := cluster["status"].(string); status != "" {
		message, _ := cluster["message"].(string)
		return strings.TrimSuffix(status+": "+message, ": ")
	}
	if c := condition(object, "Propagation"); c == nil || c["status"] != "True" {
		return "the hub has not finished it"
	}
	return ""
}

// table lays out the rows.
func table(rows []row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	write := func(cells ...string) { _, _ = io.WriteString(w, strings.Join(cells, "\t")+"\n") }
	write("KIND", "NAME", "CLUSTER", "WHAT-DIFFERS")
	for _, r := range rows {
		differs := r.differs
		if r.pending != "" {
			differs = strings.TrimPrefix(differs+"; "+r.pending, "; ")
		}
		if differs == "" {
			differs = "-"
		}
		write(r.kind, r.name, r.cluster, differs)
	}
	_ = w.Flush() // into memory
	return strings.TrimSuffix(b.String(), "\n")
}
