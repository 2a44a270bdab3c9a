package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// Members is how many member clusters the lab of a story has: m1, where the client is, m2 in the same region, and m3.
const Members = 3

// The regions of the members.
const regions = "m1=north,m2=north,m3=south"

// oneWay is the delay of every link between two clusters.
const oneWay = "10ms"

// URL is what the client calls.
const URL = "http://web.shop.svc.clusterset.local/"

// Program is the name of the hub program in the lab.
const Program = "hansa-hub"

const (
	namespace = "shop"
	hubSpace  = "kube-federation-system"

	stepPatience = 3 * time.Minute
)

// Story says where it takes place.
type Story struct {
	Lab      *lab.Lab // up, made with Options
	Bin      string   // folder with the programs hansa, hansa-lab and kubectl
	Workload string   // the lab's workload program
	Out      io.Writer
	// AgentArgs are further arguments of the agents.
	AgentArgs []string
}

// Options completes the options of a lab for stories; hansa is the path of the program that agents run.
func Options(o lab.Options, hansa string) lab.Options {
	o.Members = Members
	o.Traffic = &lab.Traffic{Regions: map[string]string{}, Images: map[string]string{"hansa": hansa}}
	for pair := range strings.SplitSeq(regions, ",") {
		cluster, region, _ := strings.Cut(pair, "=")
		o.Traffic.Regions[cluster] = region
	}
	return o
}

func (s *Story) say(format string, args ...any) { _, _ = fmt.Fprintf(s.Out, format+"\n", args...) }

// SetUp prepares what the story needs. What is done already is not done twice.
func (s *Story) SetUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"prepare the host cluster and start the hub program", s.startHub},
		{"join m1, m2 and m3, each with an agent: gateway and DNS", s.join},
		{"run the service web in all of them, and export it", s.serve},
		{"put 20 ms there and back between the clusters", s.distance},
		{"wait until web.shop.svc.clusterset.local answers in m1", s.await},
	} {
		s.say("==> %s", step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return nil
}

// run runs a program of Bin and returns what it said.
func (s *Story) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, program), args...) //nolint:gosec // G204: our own programs
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Lab.Kubeconfig(), "PATH="+s.Bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (s *Story) labCommand(ctx context.Context, args ...string) (string, error) {
	return s.run(ctx, "", "hansa-lab", append([]string{"--name=" + s.Lab.Name()}, args...)...)
}

// startHub runs the hub in the network of the host cluster's node, where members reach it.
func (s *Story) startHub(ctx context.Context) error {
	if _, err := s.run(ctx, "", "hansa", "--context=hub", "init"); err != nil {
		return err
	}
	programs, err := s.Lab.Programs()
	if err != nil {
		return err
	}
	for _, p := range programs {
		if p.Name == Program {
			return nil
		}
	}
	return s.runHub(ctx)
}

func (s *Story) runHub(ctx context.Context) error {
	address := network.NodeIP(0, 1).String()
	_, err := s.labCommand(ctx, "run", Program, "--in="+lab.Hub, "--", filepath.Join(s.Bin, "hansa"), "hub", "--context=hub",
		"--kubefed-namespace="+hubSpace, "--xds-addr=:15010", "--xds-advertise="+address+":15010", "--enrol-addr=:15012",
		"--metrics-addr=127.0.0.1:18081", "--healthz-addr=127.0.0.1:18080")
	return err
}

func (s *Story) members() []string {
	var names []string
	for i := range Members {
		names = append(names, fmt.Sprintf("m%d", i+1))
	}
	return names
}

func (s *Story) join(ctx context.Context) error {
	for _, object := range []string{"configmap/hansa-xds", "secret/hansa-ca"} {
		if _, err := s.run(ctx, "", "kubectl", "--context=hub", "--namespace="+hubSpace, "wait", "--for=create", "--timeout=60s", object); err != nil {
			return err
		}
	}
	for _, member := range s.members() {
		args := []string{"exec", lab.Hub, "--", filepath.Join(s.Bin, "hansa"), "join", member, "--host-cluster-context=hub", "--error-on-existing=false", "--agent", "--agent-image=hansa", "--agent-state-dir="}
		for _, a := range s.AgentArgs {
			args = append(args, "--agent-arg="+a)
		}
		if _, err := s.labCommand(ctx, args...); err != nil {
			return err
		}
	}
	for _, member := range s.members() {
		if _, err := s.run(ctx, "", "kubectl", "--context="+member, "--namespace="+hubSpace, "rollout", "status", "daemonset/hansa-agent", "--timeout=60s"); err != nil {
			return err
		}
	}
	return nil
}

// web is the service in each member: two Pods, of which each tells who it is.
const web = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: echo
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: web, namespace: shop}
`

func (s *Story) serve(ctx context.Context) error {
	for _, member := range s.members() {
		if _, err := s.run(ctx, web, "kubectl", "--context="+member, "apply", "--filename=-"); err != nil {
			return err
		}
	}
	for _, member := range s.members() {
		if _, err := s.run(ctx, "", "kubectl", "--context="+member, "--namespace="+namespace, "rollout", "status", "deployment/web", "--timeout=60s"); err != nil {
			return err
		}
	}
	return nil
}

func (s *Story) distance(ctx context.Context) error {
	client, err := s.Lab.Network()
	if err != nil {
		return err
	}
	delay := oneWay
	for _, cluster := range append(s.members(), lab.Hub) {
		if _, err := client.SetLinks(ctx, network.Change{Ends: network.Ends{From: []string{cluster}}, Delay: &delay}); err != nil {
			return err
		}
	}
	return nil
}

// await waits until every cluster has answered a call of the client's, as it does when its Pods are the only ones, and until
// the client's own cluster answers.
func (s *Story) await(ctx context.Context) error {
	var last error
	for {
		outcome, err := s.calls(ctx, time.Second, nil)
		if err == nil && outcome.Failed == 0 && len(outcome.Answers) == 1 && outcome.Answers["m1"] > 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("of %d calls %d failed (%v), the answers came from %v", outcome.Sent, outcome.Failed, outcome.Errors, outcome.Answers)
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; look at: hansa-lab --name=%s exec hub -- hansa --context=hub trace %s/web --from m1", last, s.Lab.Name(), namespace)
		default:
		}
	}
}

// inside runs a command in the network of a member.
func (s *Story) inside(ctx context.Context, member string, command ...string) (*exec.Cmd, *bytes.Buffer, error) {
	whole, err := s.Lab.Inside(ctx, member, command...)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, whole[0], whole[1:]...) //nolint:gosec // G204: programs of the lab
	cmd.Env = s.Lab.InsideEnv(os.Environ())
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out, nil
}

// errNoPod says that there is nobody to kill.
var errNoPod = errors.New("no such Pod runs")

// pods returns the names of the running Pods of a member with a label.
func (s *Story) pods(ctx context.Context, member, space, label string) ([]string, error) {
	out, err := s.run(ctx, "", "kubectl", "--context="+member, "--namespace="+space, "get", "pods", "--selector="+label,
		"--field-selector=status.phase=Running", "--output=jsonpath={.items[*].metadata.name}")
	if err != nil {
		return nil, err
	}
	names := strings.Fields(out)
	if len(names) == 0 {
		return nil, fmt.Errorf("%w in %s with %s", errNoPod, member, label)
	}
	return names, nil
}
