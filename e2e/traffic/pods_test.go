package traffic_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// inCluster returns the lab of a script and a client of one of its clusters.
func inCluster(ts *testscript.TestScript, name string) (*lab.Lab, kubernetes.Interface) {
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	cluster, err := l.Cluster(name)
	ts.Check(err)
	config, err := cluster.RESTConfig()
	ts.Check(err)
	api, err := kubernetes.NewForConfig(config)
	ts.Check(err)
	return l, api
}

// podsOf lists the running Pods of an app in the script's namespace.
func podsOf(ts *testscript.TestScript, api kubernetes.Interface, app string) []corev1.Pod {
	list, err := api.CoreV1().Pods(ts.Getenv("NS")).List(context.Background(), metav1.ListOptions{LabelSelector: "app=" + app})
	ts.Check(err)
	if len(list.Items) == 0 {
		ts.Fatalf("there is no Pod of %s", app)
	}
	return list.Items
}

// podCommand kills, pauses or resumes the first Pod of an app.
func podCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: lab-pod kill|pause|resume CLUSTER APP")
	}
	_, api := inCluster(ts, args[1])
	pod := podsOf(ts, api, args[2])[0].Name
	program, full := spell(ts, "lab", []string{args[0], "pod", args[1], ts.Getenv("NS") + "/" + pod})
	script.Outcome(ts, neg, ts.Exec(program, full...))
}

// spellTell is the program that tells the first Pod of an app how to behave, and its arguments.
func spellTell(ts *testscript.TestScript, args []string) (program string, full []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: tell CLUSTER APP CONTROL")
	}
	_, api := inCluster(ts, args[0])
	pod := podsOf(ts, api, args[1])[0]
	return spell(ts, "lab", []string{
		"exec", args[0], "--", "curl", "-sSf", "--max-time", "5", "-X", "PATCH", "-d", args[2], "http://" + pod.Status.PodIP + ":8080/control",
	})
}

// quickestCommand kills the Pods of an app one after the other. The machine is shared, so the quickest counts: it has to
// be out of its Service within the limit.
func quickestCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: quickest DURATION CLUSTER APP")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	l, api := inCluster(ts, args[1])
	var took []time.Duration
	for _, pod := range podsOf(ts, api, args[2]) {
		left, err := leaves(api, ts.Getenv("NS"), args[2], pod.Name, func(ctx context.Context) error {
			return l.Kill(ctx, "pod/"+args[1]+"/"+pod.Namespace+"/"+pod.Name)
		})
		ts.Check(err)
		took = append(took, left)
	}
	ts.Logf("out of the Service after %v", took)
	if quickest := slices.Min(took); quickest > limit {
		ts.Fatalf("the quickest took %s, want at most %s", quickest, limit)
	}
}

// leaves measures how long it takes from a fault until a Pod is no ready endpoint of its Service any more.
func leaves(api kubernetes.Interface, namespace, service, pod string, fault func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), script.Patience)
	defer cancel()
	events, err := api.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return 0, fmt.Errorf("watching EndpointSlices: %w", err)
	}
	defer events.Stop()
	var began time.Time
	for event := range events.ResultChan() {
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			return 0, fmt.Errorf("watching EndpointSlices: %v", event.Object)
		}
		in := serves(slice, pod)
		switch {
		case in && began.IsZero():
			began = time.Now()
			if err := fault(ctx); err != nil {
				return 0, err
			}
		case !in && !began.IsZero():
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("%s did not leave Service %s within %s", pod, service, script.Patience)
}

func serves(slice *discoveryv1.EndpointSlice, pod string) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool {
		return e.TargetRef != nil && e.TargetRef.Name == pod && e.Conditions.Ready != nil && *e.Conditions.Ready
	})
}

// occupyCommand listens on the port of a cluster's API server until the script ends.
func occupyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy CLUSTER")
	}
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	cluster, err := l.Cluster(args[0])
	ts.Check(err)
	address, err := url.Parse(cluster.URL())
	ts.Check(err)
	for deadline := time.Now().Add(script.Patience); ; {
		listener, err := net.Listen("tcp", address.Host)
		if err == nil {
			ts.Defer(func() { _ = listener.Close() })
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		<-time.After(20 * time.Millisecond) // whoever had it is still ending
	}
}

// fromToCommand asks a Pod by its address from a Pod in another cluster.
func fromToCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: from-to CLUSTER CLUSTER POD")
	}
	_, api := inCluster(ts, args[1])
	pod, err := api.CoreV1().Pods(ts.Getenv("NS")).Get(context.Background(), args[2], metav1.GetOptions{})
	ts.Check(err)
	program, full := spell(ts, args[0], []string{"exec", args[2], "--", "curl", "-sS", "--max-time", "3", "http://" + pod.Status.PodIP + ":8080/"})
	script.Outcome(ts, neg, ts.Exec(program, full...))
}
