package traffic_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// movesCommand changes something, and looks when the requests of a load move: how long it takes until somebody answers who
// did not before, and until the last answer of somebody who should not any more. Both count from the last change that was to
// be seen in an API server before, for Pods come and go one by one.
func movesCommand(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("moves", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	within := flags.Duration("within", 2*time.Second, "")
	ts.Check(flags.Parse(args))
	by, command, _ := splitAt(flags.Args(), "--")
	if neg || len(by) < 2 || len(command) == 0 {
		ts.Fatalf("usage: moves [-within DURATION] CLUSTER BY... -- COMMAND...")
	}
	cluster, by := by[0], by[1:]
	before := intervals(ts, cluster)
	was := before[len(before)-1].clusters()
	if slices.Equal(was, slices.Sorted(slices.Values(by))) {
		ts.Fatalf("clients in %s are answered by %v already", cluster, was)
	}

	ctx, cancel := context.WithTimeout(context.Background(), script.Patience)
	defer cancel()
	facts := watchFacts(ctx, ts)
	requested := time.Now()
	program, full := spell(ts, command[0], command[1:])
	ts.Check(ts.Exec(program, full...))
	select {
	case <-facts.changed:
	case <-ctx.Done():
		ts.Fatalf("not within %s: nothing that concerns traffic is changed by %q", script.Patience, command)
	}
	awaitLoad(ts, cluster, by, time.Now())

	first, last := turn(intervals(ts, cluster), was, by, requested)
	all := facts.all()
	var figures []string
	for _, answer := range []struct {
		name string
		at   time.Time
	}{{"first new answer", first}, {"last old answer", last}} {
		if answer.at.IsZero() {
			continue
		}
		cause := lastBefore(all, answer.at)
		took := max(0, answer.at.Sub(cause.at))
		if took > *within {
			ts.Fatalf("the %s came %s after the change of %s; want it within %s", answer.name, took, cause.name, *within)
		}
		figures = append(figures, fmt.Sprintf("%s %s after %s changed", answer.name, took.Round(100*time.Microsecond), cause.name))
	}
	ts.Logf("clients in %s, from %v to %v: %s; the first change was to be seen %s after it was asked for",
		cluster, was, by, strings.Join(figures, ", "), all[0].at.Sub(requested).Round(time.Millisecond))
}

// late is by how much this process may hear of a change after the hub and its clients.
const late = 50 * time.Millisecond

// lastBefore returns the last fact that changed before something happened; the first one if none did. Facts are in order.
func lastBefore(all []fact, at time.Time) fact {
	cause := all[0]
	for _, f := range all {
		if f.at.After(at.Add(late)) {
			break
		}
		cause = f
	}
	return cause
}

// splitAt splits s at the first element that is sep.
func splitAt(s []string, sep string) (before, after []string, found bool) {
	at := slices.Index(s, sep)
	if at < 0 {
		return s, nil, false
	}
	return s[:at], s[at+1:], true
}

// turn finds the first answer since then of somebody who did not answer before, and the last one of somebody who should
// not any more. Times are zero where there are no such answers.
func turn(all []report, was, is []string, since time.Time) (first, last time.Time) {
	for _, interval := range all {
		for who, span := range interval.Seen {
			cluster := clusterOf(who)
			isOld, isNew := slices.Contains(was, cluster), slices.Contains(is, cluster)
			if isNew && !isOld && !span.First.Before(since) && (first.IsZero() || span.First.Before(first)) {
				first = span.First
			}
			if isOld && !isNew && span.Last.After(since) && span.Last.After(last) {
				last = span.Last
			}
		}
	}
	return first, last
}

// fact is something that decides where requests go.
type fact struct {
	name string // of the object, with its cluster
	at   time.Time
}

// source is a kind of objects in which facts stand.
type source struct {
	cluster, namespace string
	resource           schema.GroupVersionResource
	selector           string
	value              func(*unstructured.Unstructured) string
}

// sources are the kinds that scripts change. What is written to a status is not meant.
func sources(ts *testscript.TestScript) []source {
	ns := ts.Getenv("NS")
	generation := func(o *unstructured.Unstructured) string { return fmt.Sprint("generation ", o.GetGeneration()) }
	hansa := schema.GroupVersion{Group: "hansa.dev", Version: "v1alpha1"}
	all := []source{
		{lab.Hub, "kube-federation-system", hansa.WithResource("clusterinfos"), "", generation},
		{lab.Hub, ns, hansa.WithResource("servicepolicies"), "", generation},
	}
	for _, member := range []string{"m1", "m2", "m3"} {
		all = append(all,
			source{member, ns, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), discoveryv1.LabelServiceName + "=echo", readyAddresses},
			source{member, ns, schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}, "", generation})
	}
	return all
}

// readyAddresses lists the ready endpoints of an EndpointSlice.
func readyAddresses(o *unstructured.Unstructured) string {
	var slice discoveryv1.EndpointSlice
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &slice); err != nil {
		return err.Error()
	}
	var ready []string
	for _, e := range slice.Endpoints {
		if e.Conditions.Ready != nil && *e.Conditions.Ready {
			ready = append(ready, e.Addresses...)
		}
	}
	slices.Sort(ready)
	return strings.Join(ready, " ")
}

// facts are those that have changed since somebody began to watch.
type facts struct {
	changed chan struct{} // closed with the first

	mu   sync.Mutex
	list []fact
}

func (f *facts) add(changed fact) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, changed)
	if len(f.list) == 1 {
		close(f.changed)
	}
}

// all returns the facts in the order in which they changed.
func (f *facts) all() []fact {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// watchFacts begins to watch, until ctx ends.
func watchFacts(ctx context.Context, ts *testscript.TestScript) *facts {
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	seen := &facts{changed: make(chan struct{})}
	for _, s := range sources(ts) {
		cluster, err := l.Cluster(s.cluster)
		ts.Check(err)
		config, err := cluster.RESTConfig()
		ts.Check(err)
		client, err := dynamic.NewForConfig(config)
		ts.Check(err)
		objects := client.Resource(s.resource).Namespace(s.namespace)
		list, err := objects.List(ctx, metav1.ListOptions{LabelSelector: s.selector})
		ts.Check(err)
		events, err := objects.Watch(ctx, metav1.ListOptions{LabelSelector: s.selector, ResourceVersion: list.GetResourceVersion()})
		ts.Check(err)
		go s.report(list, events, seen)
	}
	return seen
}

// report adds what differs from what was known.
func (s source) report(list *unstructured.UnstructuredList, events watch.Interface, to *facts) {
	known := map[string]string{}
	for i := range list.Items {
		known[list.Items[i].GetName()] = s.value(&list.Items[i])
	}
	for event := range events.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		value := s.value(object)
		if event.Type == watch.Deleted {
			value = ""
		}
		if value != known[object.GetName()] {
			known[object.GetName()] = value
			to.add(fact{name: fmt.Sprintf("%s %s in %s", s.resource.Resource, object.GetName(), s.cluster), at: time.Now()})
		}
	}
}
