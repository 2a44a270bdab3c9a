package lab_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// upVariable makes the test binary bring up the lab in the folder it names, and nothing else; so that a test can
// kill a process that is doing that.
const upVariable = "HANSA_LAB_TEST_UP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(upVariable); dir != "" {
		l, err := lab.New(lab.Options{Dir: dir})
		if err == nil {
			err = l.Up(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// testLog is an io.Writer to the log of a test.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// newLab returns a lab that is taken down with the test; the test fails if that leaves anything.
func newLab(t *testing.T, name string, members int) *lab.Lab {
	t.Helper()
	return labIn(t, lab.Options{Name: name, Dir: filepath.Join(t.TempDir(), name), Members: members})
}

func labIn(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	opts.Out = testLog{t}
	l, err := lab.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.Down(context.Background()); err != nil {
			t.Errorf("taking lab %s down: %v", l.Name(), err)
		}
		nothingLeft(t, l)
	})
	return l
}

// nothingLeft fails the test if the lab has left a process or a file.
func nothingLeft(t *testing.T, l *lab.Lab) {
	t.Helper()
	if left := lab.Marked(l.Dir()); len(left) > 0 {
		t.Errorf("lab %s left the processes %v", l.Name(), left)
	}
	if entries, err := os.ReadDir(filepath.Dir(l.Dir())); err != nil || len(entries) > 0 {
		t.Errorf("lab %s left the files %v, %v", l.Name(), entries, err)
	}
}

func clientOf(t *testing.T, config *rest.Config, err error) kubernetes.Interface {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func cluster(t *testing.T, l *lab.Lab, name string) lab.Cluster {
	t.Helper()
	c, err := l.Cluster(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// states returns the state of each cluster.
func states(t *testing.T, l *lab.Lab) map[string]lab.Health {
	t.Helper()
	status, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]lab.Health{}
	for _, c := range status.Clusters {
		got[c.Name] = c.State
	}
	return got
}

func wantStates(t *testing.T, l *lab.Lab, reason string, want map[string]lab.Health) {
	t.Helper()
	if diff := cmp.Diff(want, states(t, l)); diff != "" {
		t.Fatalf("%s: states: -want +got:\n%s", reason, diff)
	}
}

// TestLab lives through the life of a lab with one member, beside a second lab.
func TestLab(t *testing.T) {
	l := newLab(t, "one", 1)
	if err := l.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	allReady := map[string]lab.Health{"hub": lab.Ready, "m1": lab.Ready}
	wantStates(t, l, "the lab is up", allReady)

	t.Run("Kubeconfig", func(t *testing.T) { testKubeconfig(t, l) })
	t.Run("Access", func(t *testing.T) { testAccess(t, l) })
	t.Run("Workloads", func(t *testing.T) { testWorkloads(t, l) })
	t.Run("Audit", func(t *testing.T) { testAudit(t, l) })
	t.Run("Programs", func(t *testing.T) { testPrograms(t, l) })
	t.Run("Faults", func(t *testing.T) { testFaults(t, l) })
	t.Run("UpAgain", func(t *testing.T) { testUpAgain(t, l) })
	t.Run("SideBySide", func(t *testing.T) {
		other := newLab(t, "two", 0)
		if err := other.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStates(t, other, "the second lab is up", map[string]lab.Health{"hub": lab.Ready})
		wantStates(t, l, "the first lab does not mind", allReady)
		if found, err := other.Down(t.Context()); err != nil || !found {
			t.Fatalf("taking the second lab down: %t, %v", found, err)
		}
		wantStates(t, l, "the second lab is down", allReady)
	})

	// A program with a child of its own is still running: both end with the lab.
	if _, err := l.StartProgram(t.Context(), "family", []string{"sh", "-c", "sleep 1000 & wait"}, nil); err != nil {
		t.Fatal(err)
	}
	if found, err := l.Down(t.Context()); err != nil || !found {
		t.Fatalf("Down: %t, %v; want true", found, err)
	}
	nothingLeft(t, l)
	if found, err := l.Down(t.Context()); err != nil || found {
		t.Errorf("Down of a lab that is down: %t, %v; want false", found, err)
	}
	if _, err := l.Status(t.Context()); !errors.Is(err, lab.ErrNotFound) {
		t.Errorf("Status of a lab that is down: %v, want ErrNotFound", err)
	}
}

func testKubeconfig(t *testing.T, l *lab.Lab) {
	info, err := os.Stat(l.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig has mode %s, want 0600", info.Mode())
	}
	config, err := clientcmd.LoadFromFile(l.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if config.CurrentContext != "hub" {
		t.Errorf("the current context is %q, want hub", config.CurrentContext)
	}
	for _, name := range []string{"hub", "m1"} {
		single, err := clientcmd.NewNonInteractiveClientConfig(*config, name, nil, nil).ClientConfig()
		client := clientOf(t, single, err)
		version, err := client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(version.GitVersion, "v1.") {
			t.Errorf("%s runs Kubernetes %q", name, version.GitVersion)
		}
	}
}

// testAccess tries the doors that must be shut.
func testAccess(t *testing.T, l *lab.Lab) {
	hub, m1 := cluster(t, l, "hub"), cluster(t, l, "m1")
	anonymous := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // who does not verify must not get in either
	}}
	for _, path := range []string{"/healthz", "/version", "/api"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, hub.URL()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := anonymous.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("without credentials %s answers %s, want 401", path, resp.Status)
		}
	}
	config, err := hub.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.Host = m1.URL()
	_, err = clientOf(t, config, nil).Discovery().ServerVersion()
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("the hub's administrator takes m1 for the hub: %v", err)
	}
	config.CAData, config.Insecure = nil, true
	if _, err = clientOf(t, config, nil).Discovery().ServerVersion(); !apierrors.IsUnauthorized(err) {
		t.Errorf("m1 lets the hub's administrator in: %v", err)
	}
	config, err = m1.UserConfig("jane", "developers")
	_, err = clientOf(t, config, err).CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `"jane"`) {
		t.Errorf("a user without rights lists Secrets: %v, want forbidden for jane", err)
	}
}

// testWorkloads shows that controllers work and kubelets do not exist.
func testWorkloads(t *testing.T, l *lab.Lab) {
	config, err := cluster(t, l, "m1").RESTConfig()
	client := clientOf(t, config, err)
	token, err := client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil || token.Status.Token == "" {
		t.Errorf("asking for a token: %v", err)
	}
	labels := map[string]string{"app": "web"}
	_, err = client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Deployment has two Pods that the scheduler has looked at", func(ctx context.Context) (bool, error) {
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil || len(pods.Items) != 2 {
			return false, err
		}
		return !slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
			return p.Status.Phase != corev1.PodPending || len(p.Status.Conditions) == 0
		}), nil
	})
}

func testAudit(t *testing.T, l *lab.Lab) {
	m1 := cluster(t, l, "m1")
	mark, err := m1.AuditMark()
	if err != nil {
		t.Fatal(err)
	}
	config, err := m1.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.UserAgent = "audited/1"
	maps := clientOf(t, config, nil).CoreV1().ConfigMaps("default")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "b"}}
	if _, err := maps.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), cm, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Fatalf("creating a ConfigMap twice: %v", err)
	}
	if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	eventually(t, "both writes are in the audit log", func(context.Context) (bool, error) {
		events, next, err := m1.Audit(mark)
		mark = next
		for _, e := range events {
			if e.UserAgent == "audited/1" {
				got = append(got, fmt.Sprintf("%s %s %s %s %d", e.Verb, e.Resource, e.Namespace, e.User, e.Code))
			}
		}
		return len(got) >= 2, err
	})
	want := []string{"create configmaps default kubernetes-admin 201", "create configmaps default kubernetes-admin 409"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes of one user agent: -want +got:\n%s", diff)
	}
}

func testPrograms(t *testing.T, l *lab.Lab) {
	command := []string{"sh", "-c", "echo $KUBECONFIG $EXTRA; exec sleep 1000"}
	p, err := l.StartProgram(t.Context(), "sleeper", command, []string{"EXTRA=more"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.StartProgram(t.Context(), "sleeper", command, nil); !errors.Is(err, lab.ErrRunning) {
		t.Errorf("starting a program twice: %v, want ErrRunning", err)
	}
	want := l.Kubeconfig() + " more"
	eventually(t, "the program has written its environment", func(context.Context) (bool, error) { return p.Output() == want, nil })
	status, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Programs) != 1 || status.Programs[0].PID != p.PID || status.Programs[0].State != lab.Running {
		t.Errorf("status shows the programs %+v, want sleeper running as %d", status.Programs, p.PID)
	}
	if err := l.Pause(t.Context(), "program/sleeper"); err != nil {
		t.Error(err)
	}
	if err := l.StopProgram(t.Context(), "sleeper"); err != nil {
		t.Error(err)
	}
	if p.Activity() != lab.Gone {
		t.Errorf("after StopProgram the program is %s", p.Activity())
	}
	if err := l.StopProgram(t.Context(), "nobody"); !errors.Is(err, lab.ErrNotFound) || !strings.Contains(err.Error(), "sleeper") {
		t.Errorf("stopping an unknown program: %v, want ErrNotFound with those that are known", err)
	}
}

// testFaults uses the ConfigMap that testAudit made to see that data survives.
func testFaults(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	m1 := cluster(t, l, "m1")
	do := func(verb func(context.Context, string) error, target string) {
		t.Helper()
		if err := verb(ctx, target); err != nil {
			t.Fatal(err)
		}
	}
	do(l.Pause, "m1")
	wantStates(t, l, "m1 is paused", map[string]lab.Health{"hub": lab.Ready, "m1": lab.OnHold})
	if err := l.Start(ctx, "m1"); err == nil || !strings.Contains(err.Error(), "resume") {
		t.Errorf("starting a paused cluster: %v, want advice to resume it", err)
	}
	do(l.Resume, "m1")
	eventually(t, "m1, which was resumed, is ready", func(context.Context) (bool, error) {
		return states(t, l)["m1"] == lab.Ready, nil
	})

	do(l.Kill, "m1/scheduler")
	wantStates(t, l, "m1 has no scheduler", map[string]lab.Health{"hub": lab.Ready, "m1": lab.Degraded})
	do(l.Start, "m1/kube-scheduler")
	wantStates(t, l, "m1 has its scheduler again", map[string]lab.Health{"hub": lab.Ready, "m1": lab.Ready})

	testDeafControllers(t, l)

	do(l.Kill, "m1")
	wantStates(t, l, "m1 was killed", map[string]lab.Health{"hub": lab.Ready, "m1": lab.Stopped})
	if err := l.Pause(ctx, "m1"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("pausing a killed cluster: %v, want that it is not running", err)
	}
	u, err := url.Parse(m1.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(ctx, "m1/scheduler"); err == nil || !strings.Contains(err.Error(), "start m1/apiserver first") {
		t.Errorf("starting a scheduler without an API server: %v, want advice to start that first", err)
	}
	squatter, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(ctx, "m1"); err == nil || !strings.Contains(err.Error(), u.Port()) {
		t.Errorf("starting m1 with its port taken: %v, want an error that names the port", err)
	}
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	do(l.Start, "m1")
	wantStates(t, l, "m1 was started again", map[string]lab.Health{"hub": lab.Ready, "m1": lab.Ready})
	config, err := m1.RESTConfig()
	if _, err := clientOf(t, config, err).CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("what m1 had stored before it was killed: %v", err)
	}
	for target, known := range map[string]string{"m7": "hub, m1", "m1/kubelet": "etcd, apiserver"} {
		if err := l.Kill(ctx, target); !errors.Is(err, lab.ErrNotFound) || !strings.Contains(err.Error(), known) {
			t.Errorf("killing %s: %v, want ErrNotFound with those that are known", target, err)
		}
	}
}

// testDeafControllers checks that controllers do not outlive their API server: a watch of theirs that was held back would
// hold everything back that they do.
func testDeafControllers(t *testing.T, l *lab.Lab) {
	t.Helper()
	before := componentPIDs(t, l, "m1")
	if err := l.Kill(t.Context(), "m1/apiserver"); err != nil {
		t.Fatal(err)
	}
	if now := componentPIDs(t, l, "m1"); now[lab.ControllerManager] != before[lab.ControllerManager] {
		t.Errorf("the controller manager ended with the API server, want that it ends when another one starts")
	}
	if err := l.Start(t.Context(), "m1/apiserver"); err != nil {
		t.Fatal(err)
	}
	wantStates(t, l, "m1 has its API server again", map[string]lab.Health{"hub": lab.Ready, "m1": lab.Ready})
	after := componentPIDs(t, l, "m1")
	for component, want := range map[lab.Component]bool{lab.Etcd: false, lab.APIServer: true, lab.ControllerManager: true, lab.Scheduler: true} {
		if anew := after[component] != before[component]; anew != want {
			t.Errorf("with the API server %s was started anew: %t, want %t", component, anew, want)
		}
	}
}

// componentPIDs are the processes of a cluster's components.
func componentPIDs(t *testing.T, l *lab.Lab, name string) map[lab.Component]int {
	t.Helper()
	status, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pids := map[lab.Component]int{}
	for _, c := range status.Clusters {
		for _, component := range c.Components {
			if c.Name == name {
				pids[lab.Component(component.Name)] = component.PID
			}
		}
	}
	return pids
}

func testUpAgain(t *testing.T, l *lab.Lab) {
	before, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pids := func(s lab.Status) (pids []int) {
		for _, c := range s.Clusters {
			for _, p := range c.Components {
				pids = append(pids, p.PID)
			}
		}
		return pids
	}
	if diff := cmp.Diff(pids(before), pids(after)); diff != "" {
		t.Errorf("Up of a lab that is up changed its processes: -before +after:\n%s", diff)
	}
	more, err := lab.New(lab.Options{Name: l.Name(), Dir: l.Dir(), Members: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err := more.Up(t.Context()); !errors.Is(err, lab.ErrExists) {
		t.Errorf("Up with other members: %v, want ErrExists", err)
	}
}

// TestInterruptedUp stops making a lab in the middle, in the ways in which that can happen.
func TestInterruptedUp(t *testing.T) {
	booting := func(t *testing.T, dir string) {
		t.Helper()
		eventually(t, "an API server is starting", func(context.Context) (bool, error) {
			return len(lab.Marked(filepath.Join(dir, "clusters", "hub", "run", "apiserver.json"))) > 0, nil
		})
	}
	t.Run("Cancelled", func(t *testing.T) {
		l := newLab(t, "cancelled", 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- l.Up(ctx) }()
		booting(t, l.Dir())
		reason := errors.New("changed my mind")
		cancel(reason)
		if err := <-done; !errors.Is(err, reason) {
			t.Errorf("Up: %v, want the reason why it was cancelled", err)
		}
		nothingLeft(t, l)
	})
	t.Run("Killed", func(t *testing.T) {
		l := newLab(t, "killed", 0)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), upVariable+"="+l.Dir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		booting(t, l.Dir())
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		// The same name can be used again at once.
		if err := l.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStates(t, l, "the lab was made anew", map[string]lab.Health{"hub": lab.Ready})
		if got := len(lab.Marked(l.Dir())); got != len(lab.Components()) {
			t.Errorf("the lab has %d processes, want %d", got, len(lab.Components()))
		}
		// Not even the records are needed to find them.
		if err := os.RemoveAll(l.Dir()); err != nil {
			t.Fatal(err)
		}
		if found, err := l.Down(t.Context()); err != nil || !found {
			t.Errorf("Down of a lab without its directory: %t, %v; want true", found, err)
		}
	})
}

// script writes a program that stands in for Kubernetes.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubernetes")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUpFails(t *testing.T) {
	t.Run("BrokenProgram", func(t *testing.T) {
		l := labIn(t, lab.Options{Dir: filepath.Join(t.TempDir(), "broken"), Binary: script(t, "echo out of cheese; exit 1")})
		err := l.Up(t.Context())
		if err == nil || !strings.Contains(err.Error(), "out of cheese") || !strings.Contains(err.Error(), "etcd.log") {
			t.Errorf("Up: %v, want an error with the end of etcd's log and its path", err)
		}
		nothingLeft(t, l)
	})
	t.Run("PortsTaken", func(t *testing.T) {
		count := filepath.Join(t.TempDir(), "count")
		binary := script(t, "echo once >>"+count+"; echo listen tcp 127.0.0.1:1: bind: address already in use; exit 1")
		l := labIn(t, lab.Options{Dir: filepath.Join(t.TempDir(), "ports"), Binary: binary})
		if err := l.Up(t.Context()); !errors.Is(err, lab.ErrPortTaken) {
			t.Errorf("Up: %v, want ErrPortTaken", err)
		}
		data, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(data), "once"); got != lab.BootAttempts {
			t.Errorf("etcd was started %d times, want %d", got, lab.BootAttempts)
		}
		nothingLeft(t, l)
	})
	t.Run("ForeignDirectory", func(t *testing.T) {
		dir := t.TempDir()
		precious := filepath.Join(dir, "precious")
		if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := lab.New(lab.Options{Dir: dir, Binary: script(t, "exit 1")})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Up(t.Context()); err == nil {
			t.Error("Up made a lab in a directory that holds something else")
		}
		if _, err := l.Down(t.Context()); err == nil {
			t.Error("Down takes a directory that holds something else for a lab")
		}
		if _, err := os.Stat(precious); err != nil {
			t.Errorf("what was in the directory: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for reason, opts := range map[string]lab.Options{
		"a name that is no folder's":  {Name: "../up"},
		"a name with capitals":        {Name: "Lab"},
		"less than no members":        {Members: -1},
		"more members than there fit": {Members: lab.MaxMembers + 1},
	} {
		if _, err := lab.New(opts); err == nil {
			t.Errorf("New accepts %s", reason)
		}
	}
}

func TestRoot(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	got, err := lab.Root()
	if want := "/state/hansa/labs"; err != nil || got != want {
		t.Errorf("Root: %s, %v; want %s", got, err, want)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/jane")
	got, err = lab.Root()
	if want := "/home/jane/.local/state/hansa/labs"; err != nil || got != want {
		t.Errorf("Root with a relative XDG_STATE_HOME: %s, %v; want %s", got, err, want)
	}
}
