package controlplane_test

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/eds/controlplane"
	"github.com/hansa-dev/hansa/e2e/bench/eds/simulation"
)

const (
	services = 5
	patience = 20 * time.Second
)

// origin starts a simulated hub of two clusters in one region, and returns where the clients of each connect to.
func origin(t *testing.T) []string {
	t.Helper()
	in, commands := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- simulation.Serve(t.Context(), in, out) }()
	t.Cleanup(func() {
		_ = commands.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := io.WriteString(commands, `{"build":{"clusters":2,"services":5}}`+"\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(answers).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var a struct{ Reply simulation.Reply }
	if err := json.Unmarshal(line, &a); err != nil {
		t.Fatal(err)
	}
	return a.Reply.Addresses
}

func TestPlaneServesWhatTheOriginServes(t *testing.T) {
	addresses := origin(t)
	groups := []clients.Group{
		{Address: addresses[0], Protocol: clients.SotW, Agent: "gRPC Go", Count: 2, Zone: simulation.Zone(0, 0), Services: services},
		{Address: addresses[1], Protocol: clients.Delta, Agent: "envoy", Count: 1, Zone: simulation.Zone(1, 1), Services: services},
	}
	for name, dir := range map[string]string{"Plain": "", "TLS": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			plane := controlplane.NewPlane(t)
			own, err := plane.Serve(t.Context(), groups, dir, patience)
			if err != nil {
				t.Fatal(err)
			}
			swarm, err := clients.Connect(t.Context(), own, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer swarm.Close()
			host := simulation.Key(3).Name + "." + simulation.Key(3).Namespace + ".svc.clusterset.local"
			first := simulation.Address(1, 3)
			for _, to := range []string{"10.100.100.101", "10.100.100.102"} {
				swarm.Expect([]clients.Change{{Host: host, Address: to}})
				plane.Changed(controlplane.Change{Host: host, From: first, To: "10.9.9.9", Zones: "elsewhere-"})
				plane.Changed(controlplane.Change{Host: host, From: first, To: to, Zones: simulation.Zones(1)})
				arrivals, err := swarm.Await(t.Context(), patience)
				if err != nil {
					t.Fatalf("%s became %s: %v", first, to, err)
				}
				if slices.Contains(arrivals[0], 0) || len(arrivals[0]) != 3 {
					t.Errorf("the change arrived at %v, want three moments", arrivals[0])
				}
				first = to
			}
		})
	}
}

func TestCompare(t *testing.T) {
	slice := func(addresses ...string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
		}}
		for _, a := range addresses {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
		}
		return s
	}
	for name, test := range map[string]struct {
		reason        string
		before, after any
		want          []controlplane.Change
	}{
		"Same":    {"A slice that says the same is no change.", slice("10.0.0.1"), slice("10.0.0.1"), nil},
		"Other":   {"The address that became another one, by the global name.", slice("10.0.0.1", "10.0.0.2"), slice("10.0.0.1", "10.0.0.3"), []controlplane.Change{{Host: "web.shop.svc.clusterset.local", From: "10.0.0.2", To: "10.0.0.3"}}},
		"Fewer":   {"The benchmark never takes endpoints away.", slice("10.0.0.1", "10.0.0.2"), slice("10.0.0.1"), nil},
		"Strange": {"What is no slice is none of its business.", slice("10.0.0.1"), "gone", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, controlplane.Compared(test.before, test.after)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
}
