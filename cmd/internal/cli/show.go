package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kubefed/pkg/apis/core/common"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/join"
)

// source is a cluster whose objects are shown: the host (no name), or a member.
type source struct {
	name   string
	config *rest.Config
	err    error // why the cluster cannot be asked
	down   bool  // the hub does not find it ready
}

// listed is what a source answered.
type listed struct {
	source  source
	query   *query // as the source serves the kind
	objects []unstructured.Unstructured
	version string // resourceVersion to watch from; empty: it failed, or the kind is not served
	err     error
}

// errIncomplete marks a result without the objects of some members.
var errIncomplete = errors.New("the result is not complete")

// What one member may hold up the table; less if the hub finds it not ready.
const (
	memberTimeout     = 10 * time.Second
	downMemberTimeout = 2 * time.Second
)

// members lists the joined clusters with the hub's credentials for them, sorted by name.
func (h *host) members(ctx context.Context) ([]source, error) {
	clusters := &corev1b1.KubeFedClusterList{}
	if err := h.client.List(ctx, clusters, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing KubeFedClusters", err)
	}
	sources := make([]source, 0, len(clusters.Items))
	for i := range clusters.Items {
		member := &clusters.Items[i]
		s := source{name: member.Name, down: !ready(member)}
		secret := &corev1.Secret{}
		err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: member.Spec.SecretRef.Name}, secret)
		switch {
		case apierrors.IsNotFound(err):
			secret, err = nil, nil
		case err != nil:
			s.err = h.explain(fmt.Sprintf("reading the credentials of %s (secret/%s/%s)", member.Name, h.namespace, member.Spec.SecretRef.Name), err)
		}
		if err == nil {
			s.config, s.err = cluster.RESTConfig(member, secret)
		}
		sources = append(sources, s)
	}
	slices.SortFunc(sources, func(a, b source) int { return cmp.Compare(a.name, b.name) })
	return sources, nil
}

// ready tells whether the hub can reach a member; one that it has not looked at yet counts as ready.
func ready(member *corev1b1.KubeFedCluster) bool {
	for _, condition := range member.Status.Conditions {
		if condition.Type == common.ClusterReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return true
}

// show lists a query in all sources at once, prints what they answer, and with -w what changes after.
func (p *program) show(ctx context.Context, q *query, sources []source, columns []column) error {
	results := make([]listed, len(sources))
	var group sync.WaitGroup
	for i := range sources {
		group.Go(func() { results[i] = list(ctx, q, sources[i]) })
	}
	done := p.patience("asking %d cluster(s) ...", len(sources))
	group.Wait()
	done()
	failed := false
	for _, result := range results {
		if result.err == nil {
			continue
		}
		if result.source.name == "" {
			return result.err
		}
		failed = true
		p.warn("%v", result.err)
	}
	if err := p.print(q, results, columns); err != nil {
		return err
	}
	if q.watch {
		return p.follow(ctx, q, results, columns)
	}
	if failed {
		return fmt.Errorf("%w: see the warnings. For the state of the clusters: %s get clusters", errIncomplete, p.name)
	}
	return q.missing(results)
}

// missing returns an error that names what was asked for by name and found nowhere.
func (q *query) missing(results []listed) error {
	found := map[string]bool{}
	for _, result := range results {
		for i := range result.objects {
			found[result.objects[i].GetName()] = true
		}
	}
	absent := slices.DeleteFunc(slices.Clone(q.names), func(name string) bool { return found[name] })
	if len(absent) == 0 {
		return nil
	}
	where, next := "", fmt.Sprintf("List what there is: %s get %s", q.program, q.kind.Name)
	if q.namespace != "" {
		where = " in namespace " + q.namespace
	}
	if q.kind.Kind == clusterKind {
		next = fmt.Sprintf("List the members: %s get clusters", q.program)
	} else if len(results) > 1 || results[0].source.name != "" {
		where += " of any member"
	}
	return fmt.Errorf("%s %s not found%s. %s", qualified(q.kind), strings.Join(absent, ", "), where, next)
}

func (q *query) resource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: q.kind.Group, Version: q.kind.Version, Resource: q.kind.Name}
}

// open returns the resource client of a query in a source.
func (q *query) open(s source, timeout time.Duration) (dynamic.ResourceInterface, error) {
	if s.err != nil {
		return nil, s.err
	}
	config := rest.CopyConfig(s.config)
	config.Timeout = timeout
	made, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: making a client: %w", s.name, err)
	}
	if q.kind.Namespaced {
		return made.Resource(q.resource()).Namespace(q.namespace), nil
	}
	return made.Resource(q.resource()), nil
}

// list asks one source. A kind that a member does not serve has no objects there, which is no error; one that it serves
// in another version than the host is asked for in that.
func list(ctx context.Context, q *query, s source) listed {
	answer, err := q.listOnce(ctx, s)
	if apierrors.IsNotFound(err) && s.name != "" {
		served, unserved := q.servedBy(ctx, s)
		switch {
		case unserved != nil:
			return listed{source: s, query: q, err: unserved}
		case served == nil:
			return listed{source: s, query: q}
		}
		q = served
		answer, err = q.listOnce(ctx, s)
	}
	if err != nil {
		return listed{source: s, query: q, err: explainMember(q, s, err)}
	}
	objects := slices.DeleteFunc(answer.Items, func(o unstructured.Unstructured) bool { return !q.wants(o.GetName()) })
	for i := range objects {
		objects[i].SetGroupVersionKind(schema.GroupVersionKind{Group: q.kind.Group, Version: q.kind.Version, Kind: q.kind.Kind})
	}
	return listed{source: s, query: q, objects: objects, version: answer.GetResourceVersion()}
}

func (q *query) listOnce(ctx context.Context, s source) (*unstructured.UnstructuredList, error) {
	resources, err := q.open(s, s.timeout())
	if err != nil {
		return nil, err
	}
	return resources.List(ctx, metav1.ListOptions{LabelSelector: q.selector})
}

// timeout is how long a source may hold up the table.
func (s source) timeout() time.Duration {
	if s.down {
		return downMemberTimeout
	}
	return memberTimeout
}

// servedBy returns the query in the version that a member serves its kind in; nil when it does not serve the kind.
func (q *query) servedBy(ctx context.Context, s source) (*query, error) {
	config := rest.CopyConfig(s.config)
	config.Timeout = s.timeout()
	kinds, err := kindsOf(ctx, config, "", fmt.Sprintf("cluster %q", s.name))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kinds, func(k metav1.APIResource) bool { return k.Group == q.kind.Group && k.Kind == q.kind.Kind })
	if i < 0 {
		return nil, nil //nolint:nilnil // absent is an answer, not a failure
	}
	other := *q
	other.kind = kinds[i]
	return &other, nil
}

// explainMember says which source did not answer a query, why, and what to do.
func explainMember(q *query, s source, err error) error {
	if s.err != nil {
		return s.err // said already what is wrong
	}
	if s.name == "" && apierrors.IsNotFound(err) {
		return q.absent()
	}
	if s.name == "" {
		return unreachable("host cluster", s.config, err)
	}
	if apierrors.IsUnauthorized(err) {
		return fmt.Errorf("cluster %q refuses the hub's token: %w. Join it again: %s join %s --error-on-existing=false", s.name, err, q.program, s.name)
	}
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("cluster %q does not let the hub list %s: %w", s.name, qualified(q.kind), err)
	}
	return unreachable(fmt.Sprintf("cluster %q", s.name), s.config, err)
}

// absent is the error of a kind that the host does not serve.
func (q *query) absent() error {
	if q.kind.Group == corev1b1.SchemeGroupVersion.Group {
		return q.host.noFederation("listing " + q.kind.Kind + "s")
	}
	return fmt.Errorf("the host cluster (context %q) does not serve %s any more. Is its type still enabled? See: kubectl -n %s get federatedtypeconfigs",
		q.host.context, qualified(q.kind), q.host.namespace)
}

// print writes a finished result in the format that the query asks for.
func (p *program) print(q *query, results []listed, columns []column) error {
	type item struct {
		cluster string
		object  *unstructured.Unstructured
	}
	var items []item
	for _, result := range results {
		for i := range result.objects {
			items = append(items, item{result.source.name, &result.objects[i]})
		}
	}
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.object.GetNamespace(), b.object.GetNamespace()),
			cmp.Compare(a.object.GetName(), b.object.GetName()), cmp.Compare(a.cluster, b.cluster))
	})
	switch q.output {
	case "json", "yaml":
		contents := make([]any, 0, len(items))
		for _, i := range items {
			contents = append(contents, annotated(i.cluster, i.object))
		}
		return writeValue(p.streams.Out, q.output, map[string]any{"apiVersion": "v1", "kind": "List", "items": contents})
	case "name":
		for _, i := range items {
			p.say("%s", objectName(q, i.cluster, i.object))
		}
		return nil
	}
	if len(items) == 0 && len(q.names) > 0 {
		return nil // missing says so
	}
	if len(items) == 0 && !q.watch {
		if q.kind.Kind == clusterKind {
			fmt.Fprintf(p.streams.ErrOut, "No cluster is joined in namespace %s. Join one: %s join\n", q.namespace, p.name)
			return nil
		}
		where := ""
		if q.namespace != "" {
			where = " in namespace " + q.namespace
		}
		fmt.Fprintf(p.streams.ErrOut, "No %s found%s.\n", qualified(q.kind), where)
		return nil
	}
	t := table{header: headers(q, columns, results[0].source.name != "")}
	for _, i := range items {
		t.rows = append(t.rows, cells(q, columns, i.cluster, i.object))
	}
	return t.write(q.rows, !q.noHeaders)
}

// annotated returns the content of a member's object with the name of its cluster.
func annotated(cluster string, object *unstructured.Unstructured) map[string]any {
	if cluster == "" {
		return object.Object
	}
	marked := object.DeepCopy()
	annotations := marked.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[join.ClusterAnnotation] = cluster
	marked.SetAnnotations(annotations)
	return marked.Object
}

// objectName is an object as -o name prints it: [cluster/]type/name, as kubectl's behind the cluster.
func objectName(q *query, cluster string, object *unstructured.Unstructured) string {
	name := qualified(q.kind) + "/" + object.GetName()
	if cluster != "" {
		name = cluster + "/" + name
	}
	return name
}
