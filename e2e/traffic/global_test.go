package traffic_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// hubName is where clients in every cluster find the hub programs: a Service with whatever of them runs behind it. A gRPC
// client keeps to the first server that has told it everything, so that hubs need a name in common.
const hubName = "hansa-xds.kube-federation-system.svc.cluster.local"

// hubService is that Service, and the way to the first hub program. Hub programs run in the network of the hub's first
// node, which members reach over the WAN.
const hubService = `
apiVersion: v1
kind: Service
metadata: {name: hansa-xds, namespace: kube-federation-system}
spec: {ports: [{name: xds, port: 15010}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hansa-xds-0, namespace: kube-federation-system, labels: {kubernetes.io/service-name: hansa-xds}}
addressType: IPv4
endpoints: [{addresses: [172.20.0.11], conditions: {ready: true}}]
ports: [{name: xds, port: 15010}]
`

// The first ports of hub programs; the n-th has its own by n.
const (
	xdsPort    = 15010
	healthPort = 18080
)

// TestGlobalFlat runs the stories of global services whose pods reach each other: three members and a hub, one lab.
func TestGlobalFlat(t *testing.T) {
	testGlobal(t, alone(mostAlone), "testdata/global-flat", "flat", "--members=3", "--flat")
}

// TestGlobalNetworks runs those of global services in networks of their own, which only the nodes' addresses join. Two of
// the three members are in one region.
func TestGlobalNetworks(t *testing.T) {
	testGlobal(t, alone(mostAlone-1), "testdata/global-networks", "", "--members=3", "--region=m1=north,m2=north,m3=south")
}

// testGlobal runs the scripts of a folder one after the other in a lab with a hub; its members say that they are in the
// given network. Those of the folder dir-together, if there is one, run side by side.
func testGlobal(t *testing.T, name, dir, network string, up ...string) {
	if err := shared.run(t.Context(), append([]string{"--name=" + name, "up", "--traffic"}, up...)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.run(context.Background(), "--name="+name, "down"); err != nil {
			t.Error(err)
		}
	})
	if err := shared.federate(t.Context(), name, network); err != nil {
		t.Fatal(err)
	}
	if err := shared.serveNames(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	params := shared.params(dir, func(string) string { return name })
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	t.Run("scripts", func(t *testing.T) { testscript.RunT(script.Serial{T: t}, params) })
	if params.Dir = dir + "-together"; !exists(params.Dir) {
		return
	}
	t.Run("together", func(t *testing.T) { testscript.Run(t, params) }) // ends when all of them have
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// federate makes the members of a lab those of a hub, which runs as the program hub-0.
func (w *world) federate(ctx context.Context, name, network string) error {
	l, err := lab.New(lab.Options{Name: name})
	if err != nil {
		return err
	}
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	command := func(stdin string, program string, args ...string) error {
		cmd := exec.CommandContext(ctx, w.bin(program), args...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig(), "PATH="+w.bin("")+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := command("", "hansa", "--context=hub", "init"); err != nil {
		return err
	}
	for _, c := range clusters {
		if c.Name == lab.Hub {
			if err := command(hubService, "kubectl", "--context=hub", "apply", "--filename=-"); err != nil {
				return err
			}
			continue
		}
		// From inside, for the hub runs there.
		if err := command("", "hansa-lab", "--name="+name, "exec", lab.Hub, "--", w.bin("hansa"), "join", c.Name, "--host-cluster-context=hub"); err != nil {
			return err
		}
		info := fmt.Sprintf(`{"apiVersion":"hansa.dev/v1alpha1","kind":"ClusterInfo","metadata":{"name":%q,"namespace":"kube-federation-system"},"spec":{"network":%q}}`, c.Name, network)
		if err := errors.Join(
			command(info, "kubectl", "--context=hub", "apply", "--filename=-"),
			command(hubService, "kubectl", "--context="+c.Name, "apply", "--filename=-"),
		); err != nil {
			return err
		}
	}
	if err := command("", "hansa-lab", append([]string{"--name=" + name}, w.hubProgram(0)...)...); err != nil {
		return err
	}
	last := clusters[len(clusters)-1].Name // whose certificate comes last
	for _, object := range []string{"configmap/hansa-xds", "secret/hansa-xds-client-" + last} {
		if err := command("", "kubectl", "--context=hub", "--namespace=kube-federation-system", "wait", "--for=create", "--timeout=60s", object); err != nil {
			return err
		}
	}
	return nil
}

// hubProgram are the arguments with which hansa-lab runs the n-th hub program.
func (w *world) hubProgram(n int) []string {
	xds := strconv.Itoa(xdsPort + n)
	return []string{
		"run", fmt.Sprintf("hub-%d", n), "--in=" + lab.Hub, "--", w.bin("hansa"), "hub", "--context=hub", "--kubefed-namespace=kube-federation-system",
		"--xds-addr=:" + xds, "--xds-advertise=" + hubName + ":" + strconv.Itoa(xdsPort), "--enrol-addr=127.0.0.1:0", "--metrics-addr=0", "--healthz-addr=127.0.0.1:" + strconv.Itoa(healthPort+n),
	}
}

// hubCommand starts a hub program.
func (w *world) hubCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hub-program NUMBER")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	program, full := spell(ts, "lab", w.hubProgram(n))
	script.Outcome(ts, false, ts.Exec(program, full...))
}
