package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corev1listers "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	utilexec "k8s.io/utils/exec"

	"github.com/hansa-dev/hansa/e2e/node/agent"
	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/nstest"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// patience is more than anything here takes.
const patience = 20 * time.Second

func TestMain(m *testing.M) { nstest.Main(m) }

// TestAgent runs pods in namespaces of their own, without an API server.
func TestAgent(t *testing.T) { nstest.Rerun(t, "TestWithin") }

// world is an agent and what it tells.
type world struct {
	agent  *agent.Agent
	client *fake.Clientset
	socket string
	state  string

	mu      sync.Mutex
	pods    map[string]*corev1.Pod // as last reported
	history map[string][]string    // what was reported, in a few words
	events  []string
	changed chan struct{}
}

// TestWithin is run by TestAgent; by itself it has nothing to show.
func TestWithin(t *testing.T) {
	if !nstest.Within() {
		return
	}
	nstest.Settle(t)
	w := newWorld(t)
	t.Run("serves", w.serves)
	t.Run("restarts", w.restarts)
	t.Run("missing command", w.missingCommand)
	t.Run("unknown image", w.unknownImage)
	t.Run("job", w.job)
	t.Run("configuration", w.configuration)
	t.Run("place", w.place)
	t.Run("powers", w.powers)
	t.Run("volumes", w.volumes)
	t.Run("probes", w.probes)
	t.Run("ends", w.ends)
	t.Run("exec", w.exec)
	t.Run("control", w.control)
	t.Run("sidecar", w.sidecar)
	t.Run("reasserts", w.reasserts)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		client: fake.NewClientset(
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "cm"}, Data: map[string]string{"COLOUR": "blue"}},
		),
		pods: map[string]*corev1.Pod{}, history: map[string][]string{}, changed: make(chan struct{}),
	}
	w.client.PrependReactor("create", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{
			Token: "a token", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour)),
		}}, nil
	})
	bridge, err := sandbox.SetUpBridge(netip.MustParsePrefix("10.9.1.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	w.state = filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 12))
	w.socket = agent.SocketName
	recorder := record.NewFakeRecorder(1000)
	go func() {
		for e := range recorder.Events {
			w.note(func() { w.events = append(w.events, e) })
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	w.agent, err = agent.New(ctx, agent.Parts{
		Config: config.Config{
			Cluster: "m1", Name: "node", Labels: map[string]string{corev1.LabelTopologyZone: "a"}, Capacity: map[string]string{"cpu": "16"}, Address: netip.MustParseAddr("10.9.1.1"), ClusterDNS: netip.MustParseAddr("10.96.0.10"), ClusterDomain: "cluster.local",
			StateDir: w.state, Shim: nstest.Program, Images: []config.Image{{Name: "shell", Command: []string{"/bin/sh"}}},
		},
		Client: w.client, Events: recorder, Table: process.NewTable(), Bridge: bridge, Log: slog.New(slog.DiscardHandler),
		Pods: corev1listers.NewPodLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})), Services: corev1listers.NewServiceLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		w.agent.Wait()
	})
	w.agent.NotifyPods(ctx, func(pod *corev1.Pod) {
		w.note(func() {
			w.pods[pod.Name] = pod
			w.history[pod.Name] = append(w.history[pod.Name], brief(pod))
		})
	})
	go func() { _ = w.agent.ServeControl(ctx) }()
	return w
}

func (w *world) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait waits until something holds of what was told.
func (w *world) wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.After(patience); ; {
		w.mu.Lock()
		ok, changed := holds(), w.changed
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("waiting until %s: %v\nevents: %s", what, w.history, strings.Join(w.events, "\n"))
		}
	}
}

// brief is a status in a few words.
func brief(pod *corev1.Pod) string {
	out := []string{string(pod.Status.Phase)}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			out = append(out, c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			out = append(out, fmt.Sprintf("%s(%d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode))
		default:
			out = append(out, "running")
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			out = append(out, "ready")
		}
	}
	return strings.Join(out, " ")
}

func (w *world) waitFor(t *testing.T, name, status string) {
	t.Helper()
	w.wait(t, name+" is "+status, func() bool { return w.pods[name] != nil && brief(w.pods[name]) == status })
}

func (w *world) waitEvent(t *testing.T, text string) {
	t.Helper()
	w.wait(t, "there is the event "+text, func() bool { return strings.Contains(strings.Join(w.events, "\n"), text) })
}

// create creates a pod of one container that runs a script, after changes.
func (w *world) create(t *testing.T, name, script string, changes ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, ServiceAccountName: "default",
			Containers: []corev1.Container{{Name: "c", Image: "shell:1", Args: []string{"-c", script}}},
		},
	}
	for _, change := range changes {
		change(pod)
	}
	if _, err := w.client.CoreV1().Pods("n").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.agent.CreatePod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// remove deletes a pod as the API server would, and returns how long it took to be gone.
func (w *world) remove(t *testing.T, pod *corev1.Pod, grace int64) time.Duration {
	t.Helper()
	began := time.Now()
	pod = pod.DeepCopy()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(metav1.Now()), &grace
	if err := w.agent.DeletePod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); ; {
		if _, err := w.client.CoreV1().Pods("n").Get(t.Context(), pod.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("pod %s is still there", pod.Name)
		}
	}
	took := time.Since(began)
	if _, err := os.Stat(filepath.Join(w.state, "pods", "n_"+pod.Name+"_"+string(pod.UID))); !os.IsNotExist(err) {
		t.Errorf("the files of pod %s are still there: %v", pod.Name, err)
	}
	return took
}

const sleep = "while :; do sleep 1000; done"

func never(pod *corev1.Pod) { pod.Spec.RestartPolicy = corev1.RestartPolicyNever }

func (w *world) serves(t *testing.T) {
	pod := w.create(t, "serves", "trap 'exit 0' TERM; echo up; "+sleep+" & wait")
	w.waitFor(t, "serves", "Running running ready")
	w.waitLog(t, "serves", "up\n") // before that it does not heed the signal
	w.mu.Lock()
	ip, host := w.pods["serves"].Status.PodIP, w.pods["serves"].Status.HostIP
	w.mu.Unlock()
	if !strings.HasPrefix(ip, "10.9.1.") || host != "10.9.1.1" {
		t.Errorf("the addresses are %s and %s", ip, host)
	}
	if took := w.remove(t, pod, 30); took > 10*time.Second {
		t.Errorf("a pod that heeds SIGTERM took %s to end", took)
	}
}

func (w *world) restarts(t *testing.T) {
	pod := w.create(t, "restarts", "test -f /data/once && "+sleep+"; touch /data/once; exit 3", func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	})
	w.wait(t, "it runs again", func() bool {
		last := w.pods["restarts"]
		return last != nil && brief(last) == "Running running ready" && last.Status.ContainerStatuses[0].RestartCount == 1
	})
	w.mu.Lock()
	if got := strings.Join(w.history["restarts"], ", "); !strings.Contains(got, "Running Error(3), Running running ready") {
		t.Errorf("that the container had ended was not told: %s", got)
	}
	w.mu.Unlock()
	w.remove(t, pod, 0)
}

func (w *world) missingCommand(t *testing.T) {
	pod := w.create(t, "missing", "", func(pod *corev1.Pod) { pod.Spec.Containers[0].Command = []string{"nosuch"} })
	w.waitFor(t, "missing", "Running RunContainerError")
	w.waitFor(t, "missing", "Running CrashLoopBackOff")
	w.waitEvent(t, `Failed Error: exec: "nosuch": executable file not found in $PATH`)
	w.waitEvent(t, "BackOff Back-off restarting failed container c in pod missing_n(uid-missing)")
	w.remove(t, pod, 30)
}

func (w *world) unknownImage(t *testing.T) {
	pod := w.create(t, "unknown", "", func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Image = "registry.example/nginx:1"
		pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}}
	})
	w.waitFor(t, "unknown", "Running running ready")
	w.waitEvent(t, `UnknownImage Image "registry.example/nginx:1" is not known to this lab: container c is idle and counts as ready`)
	if took := w.remove(t, pod, 30); took > 10*time.Second {
		t.Errorf("an idle pod took %s to end", took)
	}
}

func (w *world) job(t *testing.T) {
	pod := w.create(t, "job", "cat /data/made; echo last words > /dev/termination-log", never, func(pod *corev1.Pod) {
		mount := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Spec.Containers[0].VolumeMounts = mount
		pod.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "shell", Args: []string{"-c", "echo by init > /data/made"}, VolumeMounts: mount}}
	})
	w.waitFor(t, "job", "Succeeded Completed(0)")
	w.mu.Lock()
	message := w.pods["job"].Status.ContainerStatuses[0].State.Terminated.Message
	w.mu.Unlock()
	if message != "last words\n" {
		t.Errorf("the container's last words are %q", message)
	}
	if log, err := os.ReadFile(filepath.Join(w.state, "pods", "n_job_uid-job", "c", "0.log")); err != nil || !strings.HasSuffix(string(log), " stdout F by init\n") {
		t.Errorf("the log is %q, %v", log, err)
	}
	w.remove(t, pod, 30)
	fail := w.create(t, "fail", "exit 2", never)
	w.waitFor(t, "fail", "Failed Error(2)")
	w.remove(t, fail, 30)
}

func (w *world) configuration(t *testing.T) {
	pod := w.create(t, "configuration", "echo $(COLOUR) $(IP); "+sleep, func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		}
		for _, name := range []string{"cm", "late"} {
			pod.Spec.Containers[0].EnvFrom = append(pod.Spec.Containers[0].EnvFrom, corev1.EnvFromSource{
				ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
			})
		}
	})
	w.waitFor(t, "configuration", "Pending CreateContainerConfigError")
	w.waitEvent(t, `configmap "late" not found`)
	late := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "late"}}
	if _, err := w.client.CoreV1().ConfigMaps("n").Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.waitFor(t, "configuration", "Running running ready")
	w.mu.Lock()
	want := "blue " + w.pods["configuration"].Status.PodIP + "\n"
	w.mu.Unlock()
	w.waitLog(t, "configuration", want)
	w.remove(t, pod, 0)
}

// place shows that a container is told where it runs, and that it may know better.
func (w *world) place(t *testing.T) {
	pod := w.create(t, "place", "echo $CLUSTER/$ZONE/$NODE_NAME $POD_NAMESPACE/$POD_NAME $CPUS at $POD_IP; "+sleep, func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "ZONE", Value: "its own"},
			{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		}
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
	})
	w.waitFor(t, "place", "Running running ready")
	w.mu.Lock()
	want := "m1/its own/node n/place 16 at " + w.pods["place"].Status.PodIP + "\n"
	w.mu.Unlock()
	w.waitLog(t, "place", want)
	w.waitEvent(t, "Warning Ignored hostPort 8080 of container c is ignored")
	w.remove(t, pod, 0)
}

// powers shows that no container gets power over the machine.
func (w *world) powers(t *testing.T) {
	for name, test := range map[string]struct {
		context corev1.SecurityContext
		message string
	}{
		"privileged": {corev1.SecurityContext{Privileged: new(true)}, "privileged containers are not available in the lab"},
		"mknod":      {corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "MKNOD"}}}, "capability MKNOD is not available"},
		"all":        {corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"ALL"}}}, "capability ALL is not available"},
	} {
		pod := w.create(t, name, sleep, func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = &test.context })
		w.waitFor(t, name, "Pending CreateContainerConfigError")
		w.waitEvent(t, "Failed Error: "+test.message)
		w.remove(t, pod, 0)
	}
	pod := w.create(t, "net-admin", "awk '/^CapEff/ { print $2 }' /proc/self/status; "+sleep, func(pod *corev1.Pod) {
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			Privileged: new(false), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}},
		}
	})
	w.waitFor(t, "net-admin", "Running running ready")
	w.waitLog(t, "net-admin", "00000000800435fb\n") // the usual ones, and the 12th
	w.remove(t, pod, 0)
}

// waitLog waits until the log of the pod's container ends with a text.
func (w *world) waitLog(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(w.state, "pods", "n_"+name+"_uid-"+name, "c", "0.log")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); ; {
		log, _ := os.ReadFile(path)
		if strings.HasSuffix(string(log), want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the log of %s is %q, want %q at its end", name, log, want)
		}
	}
}

func (w *world) volumes(t *testing.T) {
	pod := w.create(t, "volumes", "cat /v/token /v/name /v/sub/colour /one; "+sleep, func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: []corev1.KeyToPath{{Key: "COLOUR", Path: "sub/colour"}},
			}},
		}}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}, {Name: "v", MountPath: "/one", SubPath: "sub/colour"}}
	})
	w.waitFor(t, "volumes", "Running running ready")
	w.remove(t, pod, 0)
	refused := w.create(t, "refused", sleep, func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	})
	w.waitFor(t, "refused", "Pending ContainerCreating")
	w.waitEvent(t, "FailedMount volume h: hostPath volumes are not available in the lab")
	w.remove(t, refused, 30)
}

func (w *world) probes(t *testing.T) {
	command := func(script string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", script}}}
	}
	pod := w.create(t, "probes", "touch /tmp/up; "+sleep, func(pod *corev1.Pod) {
		c := &pod.Spec.Containers[0]
		c.StartupProbe = &corev1.Probe{ProbeHandler: command("test -f /tmp/up"), PeriodSeconds: 10}
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: command("test ! -f /tmp/away"), PeriodSeconds: 1, FailureThreshold: 1}
		c.LivenessProbe = &corev1.Probe{ProbeHandler: command("test ! -f /tmp/dead"), PeriodSeconds: 1, FailureThreshold: 1}
		pod.Spec.TerminationGracePeriodSeconds = new(int64(0))
	})
	w.waitFor(t, "probes", "Running running ready")
	w.inContainer(t, "probes", "touch /tmp/away")
	w.waitFor(t, "probes", "Running running")
	w.waitEvent(t, "Unhealthy Readiness probe failed")
	w.inContainer(t, "probes", "rm /tmp/away")
	w.waitFor(t, "probes", "Running running ready")
	w.inContainer(t, "probes", "touch /tmp/dead")
	w.waitEvent(t, "Killing Container c failed liveness probe, will be restarted")
	w.wait(t, "it runs again", func() bool {
		last := w.pods["probes"]
		return brief(last) == "Running running ready" && last.Status.ContainerStatuses[0].RestartCount == 1
	})
	w.remove(t, pod, 0)
}

// ends shows that a pod is given its time to end, and not more.
func (w *world) ends(t *testing.T) {
	hook := func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo pre > /proc/1/fd/1"}},
		}}
	}
	deaf := w.create(t, "deaf", "trap '' TERM; echo up; "+sleep, hook)
	w.waitFor(t, "deaf", "Running running ready")
	w.waitLog(t, "deaf", "up\n")
	if took := w.remove(t, deaf, 1); took < time.Second {
		t.Errorf("a pod with a second to end was gone after %s", took)
	}
	polite := w.create(t, "polite", "trap 'exit 0' TERM; echo up; "+sleep+" & wait", hook)
	w.waitLog(t, "polite", "up\n")
	w.remove(t, polite, 30)
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := brief(w.pods["polite"]); got != "Succeeded Completed(0)" {
		t.Errorf("the last that was told of the pod is %q", got)
	}
}

// streams are those of a client of exec.
type streams struct {
	in       io.Reader
	out, err bytes.Buffer
}

type closing struct{ io.Writer }

func (closing) Close() error { return nil }

func (s *streams) Stdin() io.Reader            { return s.in }
func (s *streams) Stdout() io.WriteCloser      { return closing{&s.out} }
func (s *streams) Stderr() io.WriteCloser      { return closing{&s.err} }
func (s *streams) TTY() bool                   { return false }
func (s *streams) Resize() <-chan api.TermSize { return nil }

func (w *world) inContainer(t *testing.T, name, script string) {
	t.Helper()
	if err := w.agent.Exec(t.Context(), "n", name, "c", []string{"sh", "-c", script}, &streams{}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) exec(t *testing.T) {
	pod := w.create(t, "exec", sleep)
	w.waitFor(t, "exec", "Running running ready")
	for _, test := range []struct {
		reason    string
		command   []string
		out, err  string
		code      int
		container string
	}{
		{reason: "streams are kept apart", command: []string{"sh", "-c", "cat; echo err >&2"}, out: "input", err: "err\n", container: "c"},
		{reason: "the exit code arrives", command: []string{"sh", "-c", "exit 9"}, code: 9, container: "c"},
		{reason: "a command that is missing has a code of its own", command: []string{"nosuch"}, code: 127, err: "exec: \"nosuch\": executable file not found in $PATH\n", container: "c"},
		{reason: "what the command leaves behind is not waited for", command: []string{"sh", "-c", "sleep 1000 & echo out"}, out: "out\n", container: "c"},
	} {
		s := &streams{in: strings.NewReader("input")}
		err := w.agent.Exec(t.Context(), "n", "exec", test.container, test.command, s)
		code := 0
		if exit, ok := errors.AsType[utilexec.ExitError](err); ok {
			code = exit.ExitStatus()
		} else if err != nil {
			t.Errorf("%s: %v", test.reason, err)
		}
		if s.out.String() != test.out || s.err.String() != test.err || code != test.code {
			t.Errorf("%s: printed %q and %q, code %d", test.reason, s.out.String(), s.err.String(), code)
		}
	}
	if err := w.agent.Exec(t.Context(), "n", "exec", "other", []string{"true"}, &streams{}); err == nil {
		t.Error("a command runs in a container that there is not")
	}
	w.remove(t, pod, 0)
}

func (w *world) control(t *testing.T) {
	pod := w.create(t, "control", "sleep 1000 & echo up; wait")
	w.waitFor(t, "control", "Running running ready")
	w.waitLog(t, "control", "up\n")
	dir, err := os.Open(w.state)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if info, err := os.Stat(filepath.Join(w.state, w.socket)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket is %v, %v: others may command the node", info, err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), w.socket))
	}}}
	post := func(path string, want int) {
		t.Helper()
		response, err := client.Post("http://node/pods/"+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != want {
			t.Errorf("POST %s is answered with %s", path, response.Status)
		}
	}
	info := func() agent.PodInfo {
		t.Helper()
		response, err := client.Get("http://node/pods")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var infos []agent.PodInfo
		if err := json.NewDecoder(response.Body).Decode(&infos); err != nil || len(infos) != 1 {
			t.Fatalf("the pods are %+v, %v", infos, err)
		}
		return infos[0]
	}
	if got := info(); got.Name != "control" || !got.Ready || len(got.PIDs) != 2 || got.RSSBytes == 0 || got.Phase != corev1.PodRunning {
		t.Errorf("the pod is %+v, want it ready and with two processes", got)
	}
	post("n/control/pause", http.StatusNoContent)
	for _, pid := range info().PIDs {
		for deadline := time.Now().Add(patience); stateOf(t, pid) != "T"; {
			if time.Now().After(deadline) {
				t.Fatalf("process %d of a paused pod is in state %s", pid, stateOf(t, pid))
			}
		}
	}
	post("n/control/resume", http.StatusNoContent)
	post("n/none/kill", http.StatusNotFound)
	post("n/control/kill", http.StatusNoContent)
	w.wait(t, "it is restarted", func() bool {
		last := w.pods["control"]
		return brief(last) == "Running running ready" && last.Status.ContainerStatuses[0].RestartCount == 1
	})
	w.remove(t, pod, 0)
}

func stateOf(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[0]
}

func (w *world) sidecar(t *testing.T) {
	pod := w.create(t, "sidecar", "test -f /data/up", never, func(pod *corev1.Pod) {
		mount := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Spec.Containers[0].VolumeMounts = mount
		pod.Spec.TerminationGracePeriodSeconds = new(int64(30))
		pod.Spec.InitContainers = []corev1.Container{{
			Name: "side", Image: "shell", Args: []string{"-c", "trap 'exit 0' TERM; touch /data/up; " + sleep + " & wait"}, VolumeMounts: mount,
			RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
			StartupProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"test", "-f", "/data/up"}}}},
		}}
	})
	w.waitFor(t, "sidecar", "Succeeded Completed(0)")
	w.remove(t, pod, 30)
}

// reasserts shows that a status is told again when somebody has written over it.
func (w *world) reasserts(t *testing.T) {
	pod := w.create(t, "reasserts", sleep)
	w.waitFor(t, "reasserts", "Running running ready")
	w.mu.Lock()
	told, before := len(w.history["reasserts"]), w.pods["reasserts"].DeepCopy()
	w.mu.Unlock()
	w.agent.Observe(before)
	overwritten := before.DeepCopy()
	for i := range overwritten.Status.Conditions {
		overwritten.Status.Conditions[i].Status = corev1.ConditionFalse
	}
	w.agent.Observe(overwritten)
	w.mu.Lock()
	if got := len(w.history["reasserts"]) - told; got != 1 || brief(w.pods["reasserts"]) != "Running running ready" {
		t.Errorf("after one correct and one wrong status it was told %d times, want once", got)
	}
	w.mu.Unlock()
	w.remove(t, pod, 0)
}
