package xds_test

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// shop is a table in which two clusters serve web.
func shop(t *testing.T) *table {
	t.Helper()
	w := newTable(t, "m1", "m2", "m3")
	w.Export(web, []string{"m1", "m2"})
	w.Serve(web, "m1", "10.1.0.1:8080@a", "10.1.0.2:8080@b")
	w.Serve(web, "m2", "10.2.0.1:8080@a")
	w.Publish()
	return w
}

func TestAGRPCClientGetsItsTarget(t *testing.T) {
	w := shop(t)
	c := serve(t, w, "m1", ads.Limits{}).SotW(grpcClient)
	c.Request(LDS, webTarget).Names(webTarget)
	c.Request(RDS, webTarget).Equals(webTarget + " / -> " + webCluster)
	c.Request(CDS, webCluster).Equals(webCluster + " ROUND_ROBIN")
	c.Request(EDS, webCluster).Equals(webCluster + " 0: m1/a*1 10.1.0.1:8080 | 0: m1/b*1 10.1.0.2:8080 | 1: m2/a*1 10.2.0.1:8080")

	w.Serve(web, "m1")
	w.Publish()
	c.Next(EDS).Equals(webCluster + " 0: m2/a*1 10.2.0.1:8080")
}

func TestTheZoneOfTheNodeCounts(t *testing.T) {
	h := serve(t, shop(t), "m1", ads.Limits{})
	h.Delta(in("b", grpcClient)).Request(EDS, webCluster).
		Equals(webCluster + " 0: m1/b*1 10.1.0.2:8080 | 1: m1/a*1 10.1.0.1:8080 | 2: m2/a*1 10.2.0.1:8080")
	h.Delta(in(strings.Repeat("b", 64), grpcClient)).Request(EDS, webCluster).
		Equals(webCluster + " 0: m1/a*1 10.1.0.1:8080 | 0: m1/b*1 10.1.0.2:8080 | 1: m2/a*1 10.2.0.1:8080")
}

func TestAListenerHasAnXDSTPName(t *testing.T) {
	name := "xdstp://clusterset.local/envoy.config.listener.v3.Listener/" + webTarget
	h := serve(t, shop(t), "m1", ads.Limits{})
	h.SotW(grpcClient).Request(LDS, name).Names(name)
	h.Delta(grpcClient).Request(LDS, name).Names(name)
}

func TestNamesAreAnsweredOnDemand(t *testing.T) {
	w := shop(t)
	h := serve(t, w, "m1", ads.Limits{})
	api := clusterset.Key{Namespace: "shop", Name: "api"}
	name := "outbound|80||api.shop.svc.clusterset.local"
	delta := h.Delta(grpcClient)
	delta.Request(EDS, name).Removed(name).Names()
	whole := h.SotW(grpcClient)
	whole.Request(LDS, "api.shop.svc.clusterset.local:80").Names()
	w.Export(api, []string{"m2"})
	w.Serve(api, "m2", "10.2.0.9:80")
	w.Publish()
	delta.Next(EDS).Equals(name + " 0: m2/*1 10.2.0.9:80")
	whole.Next(LDS).Names("api.shop.svc.clusterset.local:80")

	w.RemoveExport("m2", api)
	w.Publish()
	delta.Next(EDS).Removed(name)
	whole.Next(LDS).Names()
}

func TestAClientSeesWhatItsClusterMayConsume(t *testing.T) {
	w := shop(t)
	c := serve(t, w, "m3", ads.Limits{}).Delta(grpcClient)
	c.Request(CDS).Names(webCluster)
	w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m1"}}})
	w.Publish()
	c.Next(CDS).Removed(webCluster)
	w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m1", "m3"}}})
	w.Publish()
	c.Next(CDS).Names(webCluster)
}

func TestWhoIsLetIn(t *testing.T) {
	w := shop(t)
	for _, test := range []struct {
		reason, cluster, says string
		code                  codes.Code
	}{
		{"its certificate names a cluster that left or never joined", "m9", `cluster "m9" is not a member`, codes.PermissionDenied},
		{"an administrator is in no cluster, so nothing is near", "", "belongs to no cluster", codes.PermissionDenied},
	} {
		t.Run(test.reason, func(t *testing.T) {
			c := serve(t, w, test.cluster, ads.Limits{}).Delta(grpcClient)
			c.Ask(CDS)
			if err := c.Fails(); status.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want %v: %s", err, test.code, test.says)
			}
		})
	}
}

func TestAClusterThatLeavesIsSentAway(t *testing.T) {
	w := shop(t)
	c := serve(t, w, "m3", ads.Limits{}).Delta(grpcClient)
	c.Request(CDS).Names(webCluster)
	w.RemoveCluster("m3")
	w.Publish()
	if err := c.Fails(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v; want PermissionDenied", err)
	}
}

func TestAClientWaitsForTheFirstSnapshot(t *testing.T) {
	w := newTable(t)
	c := serve(t, w, "m1", ads.Limits{}).Delta(grpcClient)
	c.Ask(CDS)
	w.SetCluster(clusterset.Cluster{ID: "m1"})
	w.Export(web, []string{"m1"})
	w.Publish()
	c.Next(CDS).Names(webCluster)
}

func TestClustersMove(t *testing.T) {
	w := shop(t)
	w.SetCluster(clusterset.Cluster{ID: "m3", Network: "other", Region: "r-m1"})
	w.Publish()
	c := serve(t, w, "m3", ads.Limits{}).Delta(grpcClient)
	c.Request(EDS, webCluster).Equals(webCluster + " nothing")
	gateways := []clusterset.Gateway{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 15443}}
	w.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", Region: "r-m1", Gateways: gateways})
	w.Publish()
	c.Next(EDS).Equals(webCluster + " 0: m1/*2 192.0.2.1:15443*2(gateway)")
	w.SetCluster(clusterset.Cluster{ID: "m3", Network: "flat", Region: "r-m2"}) // the consumer itself moves
	w.Publish()
	c.Next(EDS).Equals(webCluster + " 0: m2/a*1 10.2.0.1:8080 | 1: m1/a*1 10.1.0.1:8080 | 1: m1/b*1 10.1.0.2:8080")
	w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", Region: "r-m2", DataPlane: clusterset.Down})
	w.Publish()
	c.Next(EDS).Equals(webCluster + " 0: m1/a*1 10.1.0.1:8080 | 0: m1/b*1 10.1.0.2:8080")
}

func TestAnAgentGetsServices(t *testing.T) {
	w := shop(t)
	w.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}})
	w.SetImport("m2", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.97.0.1")}})
	w.Publish()
	c := serve(t, w, "m2", ads.Limits{}).Delta(agentClient)
	c.Request(SVC).Equals("shop/web m1/2 m2/1 m1:[[10 96 0 1]] m2:[[10 97 0 1]]")
	w.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m1"}}})
	w.Publish()
	c.Next(SVC).Equals("shop/web m2/1 m2:[[10 97 0 1]] for [m1]") // its gateway goes on taking traffic for it
	w.RemoveExport("m2", web)
	w.Publish()
	c.Next(SVC).Removed("shop/web")
}

func TestAProxyGetsCompleteConfiguration(t *testing.T) {
	w := shop(t)
	w.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")}})
	w.Publish()
	c := serve(t, w, "m1", ads.Limits{}).Delta(proxyClient)
	local := "inbound|80||web.shop.svc.clusterset.local"
	c.Request(CDS).Equals(local+" ROUND_ROBIN", webCluster+" ROUND_ROBIN", "passthrough CLUSTER_PROVIDED")
	c.Request(EDS, local).Equals(local + " 0: m1/*2 10.1.0.1:8080,10.1.0.2:8080")
	c.Request(LDS).Names("east-west", "outbound", "outbound|10.96.0.1:80", "outbound|[fd00::1]:80")
	c.Request(RDS, webTarget).Equals(webTarget + " / -> " + webCluster)

	w.RemoveExport("m1", web) // others still serve it
	w.Publish()
	seen := map[string]bool{}
	for range 3 {
		r := c.next("")
		for _, name := range r.removed {
			seen[name] = true
		}
		c.send(r.url, r.nonce, "", nil, nil)
	}
	if !seen["east-west"] || !seen[local] {
		t.Errorf("what is not exported any more is still there: %v", seen)
	}
}

func TestAPolicyThatClientsWouldRefuseIsLeftOut(t *testing.T) {
	w := shop(t)
	w.Policy(web, servicepolicy.L7{LoadBalancer: servicepolicy.LeastRequest, Routes: []servicepolicy.Route{{
		Matches: []servicepolicy.Match{{Headers: []servicepolicy.HeaderMatch{{Name: "a\nb"}}}},
	}}})
	w.Publish()
	h := serve(t, w, "m1", ads.Limits{})
	c := h.Delta(grpcClient)
	c.Request(CDS).Equals(webCluster + " ROUND_ROBIN")
	w.Policy(web, servicepolicy.L7{LoadBalancer: servicepolicy.LeastRequest})
	w.Publish()
	c.Next(CDS).Equals(webCluster + " LEAST_REQUEST")
}

// TestReplicasAgree lets a client resume against another hub: what it has is not sent again.
func TestReplicasAgree(t *testing.T) {
	for _, flavour := range []struct {
		name string
		who  who
		url  string
	}{{"grpc", grpcClient, CDS}, {"proxy", proxyClient, CDS}, {"agent", agentClient, SVC}} {
		t.Run(flavour.name, func(t *testing.T) {
			one, other := shop(t), newTable(t, "m3", "m2", "m1")
			first := serve(t, one, "m1", ads.Limits{}).Delta(flavour.who).Request(flavour.url)
			// The other hub learned the same in another order.
			other.Serve(web, "m2", "10.2.0.1:8080@a")
			other.Export(web, []string{"m1", "m2"})
			other.Publish()
			other.Serve(web, "m1", "10.1.0.2:8080@b", "10.1.0.1:8080@a")
			other.Publish()
			api := clusterset.Key{Namespace: "shop", Name: "api"}
			other.Export(api, []string{"m2"})
			other.Publish()
			c := serve(t, other, "m1", ads.Limits{}).Delta(flavour.who)
			c.send(flavour.url, "", "", nil, first.versions)
			c.Next(flavour.url).Names(map[string]string{CDS: "outbound|80||api.shop.svc.clusterset.local", SVC: "shop/api"}[flavour.url])
		})
	}
}

var _ xds.Snapshots = (*clusterset.Latest)(nil)
