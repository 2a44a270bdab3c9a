package scenarios_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
)

const (
	labPrefix    = "scenarios-" // labs of this package: the prefix and the process that owns it
	defaultHub   = "hub"        // the hub program of every script that does not start another
	hubUser      = "hansa-hub"  // who the hub program is in the host cluster
	readyTimeout = 60 * time.Second
	graceTimeout = 10 * time.Second // for a member that was started again and is about to be found ready
	poll         = 100 * time.Millisecond

	// Hub programs listen below the ports of labs: one that starts while a member is dead must not take that member's.
	firstHubPort = 10000
	hubPorts     = 10000
)

var members = []string{"m1", "m2"}

// fixture is a lab with a hub program in it, and the programs that scripts run.
type fixture struct {
	dir  string // programs, HOME of scripts, kubeconfig of the hub
	keep bool
	lab  *lab.Lab

	gatewayAPI string // folder with the definitions of the Gateway API

	mu      sync.Mutex
	started int                    // hub programs so far
	hubs    map[string]lab.Program // running, by the name that scripts use
	logs    []string               // of all hub programs ever
	marks   map[string]map[string]lab.Mark
}

func newFixture(ctx context.Context, keep string) (*fixture, error) {
	f := &fixture{keep: keep != "", hubs: map[string]lab.Program{}, marks: map[string]map[string]lab.Mark{}}
	var err error
	if f.dir, err = os.MkdirTemp("", labPrefix); err != nil {
		return f, fmt.Errorf("making a folder for programs: %w", err)
	}
	if err := lab.Sweep(ctx, labPrefix); err != nil {
		return f, err
	}
	name := keep
	if name == "" {
		name = lab.OwnName(labPrefix)
	}
	f.lab, err = lab.New(lab.Options{Name: name, Members: len(members), Out: os.Stderr})
	return f, err
}

func (f *fixture) say(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (f *fixture) bin(name string) string { return filepath.Join(f.dir, "bin", name) }

// up builds the programs, boots the clusters, prepares the host, starts the hub and joins the members.
func (f *fixture) up(ctx context.Context) error {
	began := time.Now()
	built := make(chan error, 1)
	go func() { built <- f.build(ctx) }()
	if err := firstOf(f.lab.Up(ctx), <-built); err != nil {
		return err
	}
	if err := f.writeHubKubeconfig(); err != nil {
		return err
	}
	if err := f.run(ctx, "hansa", "init", "--host-cluster-context="+lab.Hub); err != nil {
		return err
	}
	if f.keep {
		if err := f.stopStrangers(ctx); err != nil {
			return err
		}
	}
	if err := f.startHub(ctx, defaultHub, readyTimeout); err != nil {
		return err
	}
	if err := f.join(ctx); err != nil {
		return err
	}
	f.say("lab %s is ready for scripts after %s", f.lab.Name(), time.Since(began).Round(100*time.Millisecond))
	return nil
}

// build puts the programs into the fixture's folder: those that people run as they are shipped, the hub with the race
// detector.
func (f *fixture) build(ctx context.Context) error {
	source, err := lab.FindSource()
	if err != nil {
		return err
	}
	binary, err := lab.FindBinary(ctx, source)
	if err != nil {
		return err
	}
	if err := binary.Build(ctx, os.Stderr); err != nil {
		return err
	}
	if err := binary.Install(f.bin(""), "kubectl"); err != nil {
		return err
	}
	root := filepath.Dir(filepath.Dir(source))
	for _, args := range [][]string{
		{"build", "-o", f.bin("") + "/", "./cmd/hansa", "./cmd/kubefedctl"},
		{"build", "-race", "-o", f.bin("hansa-race"), "./cmd/hansa"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return f.findGatewayAPI(ctx, root)
}

// findGatewayAPI finds the definitions of the Gateway API in the module that the hub is built with.
func (f *fixture) findGatewayAPI(ctx context.Context, root string) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("looking for the module of the Gateway API: %w", err)
	}
	f.gatewayAPI = filepath.Join(strings.TrimSpace(string(out)), "config", "crd", "standard")
	return nil
}

// writeHubKubeconfig gives the hub program an identity of its own, so that audit logs tell its writes from a person's.
func (f *fixture) writeHubKubeconfig() error {
	host, err := f.lab.Cluster(lab.Hub)
	if err != nil {
		return err
	}
	config, err := host.UserConfig(hubUser, "system:masters")
	if err != nil {
		return err
	}
	return writeKubeconfig(f.hubKubeconfig(), config)
}

func (f *fixture) hubKubeconfig() string { return filepath.Join(f.dir, "hub.kubeconfig") }

func writeKubeconfig(path string, config *rest.Config) error {
	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	file.CurrentContext = "c"
	return clientcmd.WriteToFile(*file, path)
}

// env is the environment of the programs that people run.
func (f *fixture) env() []string {
	return []string{
		"PATH=" + f.bin("") + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"HOME=" + filepath.Join(f.dir, "home"), // kubectl's discovery cache
		"KUBECONFIG=" + f.lab.Kubeconfig(),
		"GATEWAY_API=" + f.gatewayAPI,
	}
}

func (f *fixture) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, f.bin(program), args...)
	cmd.Env = f.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return nil
}

// join joins the members that are not joined or do not work, and waits until the hub finds all of them ready.
func (f *fixture) join(ctx context.Context) error {
	for _, member := range members {
		if f.awaitReady(ctx, member, graceTimeout) == nil {
			continue
		}
		if err := f.run(ctx, "hansa", "join", member, "--host-cluster-context="+lab.Hub, "--error-on-existing=false"); err != nil {
			return err
		}
		if err := f.awaitReady(ctx, member, readyTimeout); err != nil {
			return err
		}
	}
	return nil
}

func (f *fixture) awaitReady(ctx context.Context, member string, timeout time.Duration) error {
	return f.run(ctx, "kubectl", "wait", "kubefedcluster/"+member, "--for=condition=Ready", "-n", api.DefaultNamespace, "--timeout="+timeout.String())
}

// mend makes up for what a serial script has left: members that are down, paused or not joined, hubs of its own.
func (f *fixture) mend(ctx context.Context) error {
	for _, name := range append([]string{lab.Hub}, members...) {
		if err := errors.Join(ignoreIdle(f.lab.Resume(ctx, name)), f.lab.Start(ctx, name)); err != nil {
			return err
		}
	}
	f.mu.Lock()
	running := slices.Sorted(maps.Keys(f.hubs))
	f.mu.Unlock()
	for _, name := range running {
		if name != defaultHub {
			if err := f.killHub(ctx, name); err != nil {
				return err
			}
		}
	}
	if f.hub(defaultHub).Activity() != lab.Running {
		if err := f.startHub(ctx, defaultHub, readyTimeout); err != nil {
			return err
		}
	}
	strangers := "metadata.name!=" + strings.Join(members, ",metadata.name!=")
	if err := f.run(ctx, "kubectl", "delete", "kubefedcluster", "-n", api.DefaultNamespace, "--field-selector="+strangers); err != nil {
		return err
	}
	return f.join(ctx)
}

// ignoreIdle drops the complaint that there is nothing to resume.
func ignoreIdle(err error) error {
	if err != nil && strings.Contains(err.Error(), "is not running") {
		return nil
	}
	return err
}

// down takes everything down and looks for what must not be: data races, panics, anything that is left.
func (f *fixture) down(failed bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if f.lab == nil {
		return os.RemoveAll(f.dir)
	}
	f.mu.Lock()
	names := slices.Sorted(maps.Keys(f.hubs))
	f.mu.Unlock()
	var problems []error
	for _, name := range names {
		problems = append(problems, f.stopHub(ctx, name))
	}
	problems = append(problems, f.inspectLogs(failed))
	if !f.keep {
		_, err := f.lab.Down(ctx)
		problems = append(problems, err, f.nothingLeft())
	}
	return errors.Join(append(problems, os.RemoveAll(f.dir))...)
}

// inspectLogs reads the logs of all hub programs. After a failure it shows the end of the last one.
func (f *fixture) inspectLogs(failed bool) error {
	var problems []error
	for i, path := range f.logs {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading the log of a hub program: %w", err)
		}
		for _, bad := range []string{"WARNING: DATA RACE", "panic:", "fatal error:", "Observed a panic"} {
			if _, after, found := bytes.Cut(data, []byte(bad)); found {
				problems = append(problems, fmt.Errorf("the hub program says %q:\n%s%s", bad, bad, after[:min(len(after), 6000)]))
			}
		}
		if failed && i == len(f.logs)-1 {
			f.say("the end of the hub's log:\n%s", data[max(0, len(data)-6000):])
		}
	}
	return errors.Join(problems...)
}

// nothingLeft tells of files and processes of the lab that outlived it.
func (f *fixture) nothingLeft() error {
	if _, err := os.Stat(f.lab.Dir()); !os.IsNotExist(err) {
		return fmt.Errorf("the lab is down, but its directory %s is still there (%w)", f.lab.Dir(), err)
	}
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return fmt.Errorf("listing processes: %w", err)
	}
	for _, path := range environs {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(f.lab.Dir()+"/")) {
			return fmt.Errorf("the lab is down, but process %s of it still runs", filepath.Dir(path))
		}
	}
	return nil
}

// stopStrangers ends hub programs that an earlier run left in a lab that is kept.
func (f *fixture) stopStrangers(ctx context.Context) error {
	programs, err := f.lab.Programs()
	if err != nil {
		return err
	}
	for _, p := range programs {
		if err := f.lab.StopProgram(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// hub is a hub program by the name that scripts use; the zero Program, which is Gone, if it was never started.
func (f *fixture) hub(name string) lab.Program {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hubs[name]
}

// startHub starts a hub program and waits until it is ready, for so long. Every one has a log of its own.
func (f *fixture) startHub(ctx context.Context, name string, limit time.Duration, flags ...string) error {
	if f.hub(name).Activity() != lab.Gone {
		return fmt.Errorf("hub program %s runs already", name)
	}
	ports := lab.NewPorts(func() int { return firstHubPort + rand.IntN(hubPorts) })
	metrics, err := ports.Free()
	if err != nil {
		return err
	}
	health, err := ports.Free()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.started++
	program := fmt.Sprintf("%s-%d", name, f.started)
	f.mu.Unlock()
	command := append([]string{
		f.bin("hansa-race"), "hub",
		"--kubeconfig=" + f.hubKubeconfig(),
		"--kubefed-namespace=" + api.DefaultNamespace,
		fmt.Sprintf("--metrics-addr=127.0.0.1:%d", metrics),
		"--xds-addr=127.0.0.1:0",
		"--enrol-addr=127.0.0.1:0",
		fmt.Sprintf("--healthz-addr=127.0.0.1:%d", health),
	}, flags...)
	p, err := f.lab.StartProgram(ctx, program, command, nil)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.hubs[name] = p
	f.logs = append(f.logs, p.Log)
	f.mu.Unlock()
	url := fmt.Sprintf("http://127.0.0.1:%d/readyz", health)
	err = wait.PollUntilContextTimeout(ctx, poll, limit, true, func(ctx context.Context) (bool, error) {
		if p.Activity() == lab.Gone {
			return false, fmt.Errorf("hub program %s ended:\n%s", name, p.Output())
		}
		return healthy(ctx, url), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for hub program %s: %w", name, err)
	}
	return nil
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stopHub ends a hub program as an administrator would, and insists that it stops by itself.
func (f *fixture) stopHub(ctx context.Context, name string) error {
	p, err := f.forget(name)
	if err != nil {
		return err
	}
	if p.Activity() == lab.Gone {
		return fmt.Errorf("hub program %s had ended before it was told to:\n%s", name, p.Output())
	}
	if err := f.lab.StopProgram(ctx, p.Name); err != nil {
		return err
	}
	if log, err := os.ReadFile(p.Log); err != nil || !bytes.Contains(log, []byte("\tStopped")) {
		return fmt.Errorf("hub program %s did not stop by itself (%w):\n%s", name, err, p.Output())
	}
	return nil
}

// killHub ends a hub program with SIGKILL.
func (f *fixture) killHub(ctx context.Context, name string) error {
	p, err := f.forget(name)
	if err != nil {
		return err
	}
	return f.lab.Kill(ctx, "program/"+p.Name)
}

func (f *fixture) forget(name string) (lab.Program, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, found := f.hubs[name]
	if !found {
		return p, fmt.Errorf("no hub program %s was started", name)
	}
	delete(f.hubs, name)
	return p, nil
}
