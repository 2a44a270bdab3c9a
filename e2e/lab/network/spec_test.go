package network_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

func TestAddresses(t *testing.T) {
	got := map[string]string{
		"router":     network.RouterIP(1).String(),
		"node":       network.NodeIP(1, 2).String(),
		"nodes":      network.NodeRange(1).String(),
		"pods":       network.PodRange(1).String(),
		"node pods":  network.NodePodRange(1, 2).String(),
		"services":   network.ServiceRange(1).String(),
		"dns":        network.DNSIP(1).String(),
		"last range": network.ServiceRange(50).String(),
	}
	want := map[string]string{
		"router": "172.20.1.1", "node": "172.20.1.12", "nodes": "172.20.1.0/24", "pods": "10.1.0.0/16", "node pods": "10.1.2.0/24",
		"services": "10.97.0.0/16", "dns": "10.97.0.10", "last range": "10.146.0.0/16",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestRangesDoNotOverlap(t *testing.T) {
	var all []netip.Prefix
	for cluster := range network.MaxClusters {
		all = append(all, network.NodeRange(cluster), network.PodRange(cluster), network.ServiceRange(cluster))
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Overlaps(b) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
	last := network.NodeIP(0, network.MaxNodes)
	if !network.NodeRange(0).Contains(last) || !network.PodRange(0).Contains(network.NodePodRange(0, network.MaxNodes).Addr()) {
		t.Errorf("the last node has %s", last)
	}
}

func TestSpecIsChecked(t *testing.T) {
	good := func() network.Spec {
		return network.Spec{Socket: "/x/control.sock", NFT: "/usr/sbin/nft", Clusters: []network.Cluster{
			{Name: "hub", Index: 0, Nodes: []string{"hub-n1"}, Port: 6443},
			{Name: "m1", Index: 1, Nodes: []string{"m1-n1"}, Port: 6444},
		}}
	}
	tests := []struct {
		reason string
		spoil  func(*network.Spec)
		err    string
	}{
		{"nobody could enter it", func(s *network.Spec) { s.Socket = "" }, "needs socket, nft and clusters"},
		{"pods could not reach other clusters", func(s *network.Spec) { s.NFT = "" }, "needs socket, nft and clusters"},
		{"nothing to do", func(s *network.Spec) { s.Clusters = nil }, "needs socket, nft and clusters"},
		{"each has one listener", func(s *network.Spec) { s.Clusters = s.Clusters[:1] }, "1 clusters and 2 listeners"},
		{"addresses are made of it", func(s *network.Spec) { s.Clusters[1].Index = 51 }, "cluster m1: index 51: it must be 0 to 50"},
		{"addresses are made of it", func(s *network.Spec) { s.Clusters[1].Index = -1 }, "cluster m1: index -1"},
		{"they would have the same addresses", func(s *network.Spec) { s.Clusters[1].Index = 0 }, "cluster m1: index 0 is taken"},
		{"they are entered by name", func(s *network.Spec) { s.Clusters[1].Name = "hub" }, `name "hub"`},
		{"clusters and nodes share their names", func(s *network.Spec) { s.Clusters[1].Nodes[0] = "hub" }, `name "hub"`},
		{"a name is needed", func(s *network.Spec) { s.Clusters[1].Nodes[0] = "" }, `name ""`},
		{"addresses are few", func(s *network.Spec) { s.Clusters[1].Nodes = make([]string, 100) }, "100 nodes are more than 99"},
		{"there is no such port", func(s *network.Spec) { s.Clusters[0].Port = 0 }, "cluster hub: port 0"},
	}
	for _, test := range tests {
		s := good()
		test.spoil(&s)
		if err := network.CheckSpec(s, 2); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("error %v, want %q: %s", err, test.err, test.reason)
		}
	}
	if err := network.CheckSpec(good(), 2); err != nil {
		t.Errorf("a good spec: %v", err)
	}
}
