// Package boot measures the lab itself: how long a hub and three members with traffic take to be ready, what they use,
// how soon Pods serve, and how soon a Pod that was killed is out of its Service.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/lab"
)

// Row is the id of the only row.
const Row = "lab-boot"

// The lab that is measured, and the work in it.
const (
	members  = 3
	copies   = 3
	many     = 50
	patience = 2 * time.Minute
)

// Options say what to run.
type Options struct {
	Runs int
	Out  io.Writer // progress
}

// series collects the figures of all runs.
type series struct {
	boot, serving, many, killed, memory, down result.Runs
}

// Run measures the row.
func Run(ctx context.Context, o Options) ([]result.Row, error) {
	if o.Runs < 1 {
		return nil, errors.New("at least one run is needed")
	}
	load := rig.LoadAverage()
	program, remove, err := build(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	var all series
	for i := range o.Runs {
		if err := all.once(ctx, program, o.Out); err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintf(o.Out, "%s run %d: ready after %.1f s, %d Pods serve after %.2f s, %d after %.1f s, a killed one is out after %.0f ms, %.0f MiB, down in %.1f s\n",
			Row, i+1, all.boot[i], copies, all.serving[i], many, all.many[i], all.killed[i], all.memory[i], all.down[i])
	}
	f := result.Of(all.boot, nil, "s").With("pods_serving_s", all.serving.Median()).With("pods_50_s", all.many.Median()).
		With("killed_ms", all.killed.Median()).With("memory_mib", all.memory.Median()).With("down_s", all.down.Median())
	f.Note = "memory: of all processes of the lab with 3 Pods, shared pages once; killed: from the kill to the EndpointSlice's event"
	f.Load, f.Time = result.Load{Average: load, Cores: runtime.NumCPU()}, time.Now().UTC().Format(time.RFC3339)
	return []result.Row{{ID: Row, Figures: f}}, nil
}

// build makes hansa-lab of this checkout, which holds the lab's networks.
func build(ctx context.Context) (program string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "bench-boot-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for programs: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	source, err := lab.FindSource()
	if err == nil {
		program = filepath.Join(dir, "hansa-lab")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./cmd/hansa-lab") //nolint:gosec // G204: a path of our own
		cmd.Dir = filepath.Dir(filepath.Dir(source))
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("building hansa-lab: %w\n%s", err, out)
		}
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return program, remove, nil
}

// once makes a lab, uses it and takes it down.
func (s *series) once(ctx context.Context, program string, out io.Writer) (err error) {
	l, err := lab.New(lab.Options{
		Name: lab.OwnName("bench-boot-"), Members: members, Traffic: &lab.Traffic{}, Self: []string{program, "network"}, Out: out,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := l.Up(ctx); err != nil {
		return err
	}
	s.boot = append(s.boot, time.Since(began).Seconds())
	defer func() {
		began := time.Now()
		_, failed := l.Down(context.WithoutCancel(ctx))
		s.down = append(s.down, time.Since(began).Seconds())
		err = errors.Join(err, failed)
	}()
	return s.use(ctx, l)
}

func (s *series) use(ctx context.Context, l *lab.Lab) error {
	cluster, err := l.Cluster("m1")
	if err != nil {
		return err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client for m1: %w", err)
	}
	w := &work{api: api}
	took, err := w.serve(ctx, "few", copies)
	if err != nil {
		return err
	}
	s.serving = append(s.serving, took.Seconds())
	if took, err = w.kill(ctx, l, "few", copies); err != nil {
		return err
	}
	s.killed = append(s.killed, float64(took.Microseconds())/1000)
	s.memory = append(s.memory, float64(atRest(ctx, l))/(1<<20))
	if took, err = w.serve(ctx, "many", many); err != nil {
		return err
	}
	s.many = append(s.many, took.Seconds())
	return nil
}

// work is what is done in one cluster.
type work struct{ api kubernetes.Interface }

// serve creates a Deployment and its Service, and returns how long it took until all of it was in the Service.
func (w *work) serve(ctx context.Context, name string, copies int32) (time.Duration, error) {
	labels := map[string]string{"app": name}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 8080}}},
	}
	if _, err := w.api.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("creating Service %s: %w", name, err)
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &copies, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "echo", Image: "echo",
					ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
						HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)},
					}},
				}}},
			},
		},
	}
	began := time.Now()
	if _, err := w.api.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("creating Deployment %s: %w", name, err)
	}
	err := w.await(ctx, name, func(ready map[string]bool) bool { return len(ready) == int(copies) })
	return time.Since(began), err
}

// kill kills one Pod and returns how long it took until it was out of the Service.
func (w *work) kill(ctx context.Context, l *lab.Lab, name string, copies int) (time.Duration, error) {
	pods, err := w.api.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return 0, fmt.Errorf("listing Pods: %w", err)
	}
	if len(pods.Items) != copies {
		return 0, fmt.Errorf("there are %d Pods of %s, want %d", len(pods.Items), name, copies)
	}
	victim := pods.Items[0].Name
	began := time.Now()
	if err := l.Kill(ctx, "pod/m1/"+metav1.NamespaceDefault+"/"+victim); err != nil {
		return 0, err
	}
	err = w.await(ctx, name, func(ready map[string]bool) bool { return !ready[victim] })
	return time.Since(began), err
}

// await follows the EndpointSlices of a Service until the names of its ready Pods are as wanted.
func (w *work) await(ctx context.Context, service string, done func(ready map[string]bool) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	slices := w.api.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	selector := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service}
	events, err := slices.Watch(ctx, selector) // begins with what there is
	if err != nil {
		return fmt.Errorf("watching the EndpointSlices of %s: %w", service, err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if ok && done(readyIn(slice)) { // up to a hundred Pods are in one slice
			return nil
		}
	}
	return fmt.Errorf("the EndpointSlices of %s did not become as wanted within %s", service, patience)
}

func readyIn(slice *discoveryv1.EndpointSlice) map[string]bool {
	ready := map[string]bool{}
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready && endpoint.TargetRef != nil {
			ready[endpoint.TargetRef.Name] = true
		}
	}
	return ready
}

// atRest returns the memory of a lab once it has given back what its start took: once it falls no more.
func atRest(ctx context.Context, l *lab.Lab) int64 {
	const pause, most = time.Second, 15
	least := l.Memory()
	for quiet, n := 0, 0; quiet < 3 && n < most; n++ {
		select {
		case <-ctx.Done():
			return least
		case <-time.After(pause):
		}
		quiet++
		if now := l.Memory(); now < least-least/200 {
			least, quiet = now, 0
		}
	}
	return least
}
