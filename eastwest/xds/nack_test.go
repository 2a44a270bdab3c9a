package xds_test

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// toCanary is a policy with a route to web's endpoints in m2.
func toCanary(weights ...uint32) servicepolicy.L7 {
	route := servicepolicy.Route{}
	for i, weight := range weights {
		subset := servicepolicy.Subset{Clusters: []string{"m2"}}
		if i%2 == 1 {
			subset = servicepolicy.Subset{}
		}
		route.Destinations = append(route.Destinations, servicepolicy.Destination{Subset: subset, Weight: weight})
	}
	return servicepolicy.L7{Routes: []servicepolicy.Route{route}}
}

func matching(m servicepolicy.Match) servicepolicy.L7 {
	policy := toCanary(1)
	policy.Routes[0].Matches = []servicepolicy.Match{m}
	return policy
}

const webCanary = "outbound|80|299c0c9b4992|web.shop.svc.clusterset.local"

// nacks are what gRPC clients refuse (NACK), or drop without a word, if it is told as it is.
var nacks = []struct {
	reason string
	given  func(*table)
	eds    string // of web in m1; empty: not looked at
	rds    string
}{
	{
		reason: "priorities must be contiguous: a region with nothing ready has none",
		given: func(w *table) {
			w.SetCluster(clusterset.Cluster{ID: "m2", Network: "flat", Region: "r-m1"})
			w.Serve(web, "m2")
			w.Export(web, []string{"m1", "m2", "m3"})
			w.Serve(web, "m3", "10.3.0.1:80")
		},
		eds: "0: m1/*1 10.1.0.1:80 | 1: m3/*1 10.3.0.1:80",
	},
	{
		reason: "a priority that a subset leaves empty must not leave a gap",
		given: func(w *table) {
			w.Policy(web, toCanary(1))
		},
	},
	{
		reason: "an address must not occur twice: two clusters with overlapping ranges on one network",
		given:  func(w *table) { w.Serve(web, "m2", "10.1.0.1:80", "10.2.0.1:80") },
		eds:    "0: m1/*1 10.1.0.1:80 | 1: m2/*1 10.2.0.1:80",
	},
	{
		reason: "an address must not occur twice: one gateway for two clusters",
		given: func(w *table) {
			w.Export(web, []string{"m1", "m2", "m3"})
			w.Serve(web, "m3", "10.3.0.1:80", "10.3.0.2:80")
			for _, id := range []string{"m2", "m3"} {
				w.SetCluster(clusterset.Cluster{ID: id, Network: "far", Gateways: []clusterset.Gateway{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 15443}}})
			}
		},
	},
	{
		reason: "a locality must not occur twice in a priority: two clusters in one zone",
		given: func(w *table) {
			for _, id := range []string{"m1", "m2"} {
				w.SetCluster(clusterset.Cluster{ID: id, Network: "flat", Region: "eu"})
			}
			w.Serve(web, "m1", "10.1.0.1:80@a")
			w.Serve(web, "m2", "10.2.0.1:80@a")
		},
		eds: "0: m1/a*1 10.1.0.1:80 | 0: m2/a*1 10.2.0.1:80",
	},
	{
		reason: "a locality of weight 0 is dropped without a word: a cluster without weight is not listed",
		given: func(w *table) {
			w.SetPolicy(web, clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "m2", Weight: 0}}})
		},
		eds: "0: m1/*1000 10.1.0.1:80",
	},
	{
		reason: "a service without endpoints has an assignment without localities, which is valid",
		given: func(w *table) {
			w.Serve(web, "m1")
			w.Serve(web, "m2")
		},
		eds: "nothing",
	},
	{
		reason: "IPv6 addresses stand without brackets",
		given:  func(w *table) { w.Serve(web, "m1", "[fd00::1]:80") },
		eds:    "0: m1/*1 fd00::1:80 | 1: m2/*1 10.2.0.1:80",
	},
	{
		reason: "gateways carry metadata and weights, which gRPC reads over; transport_socket_matches it would refuse",
		given: func(w *table) {
			w.SetCluster(clusterset.Cluster{ID: "m2", Network: "far", Gateways: []clusterset.Gateway{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 15443}}})
			w.Serve(web, "m2", "10.2.0.1:80", "10.2.0.2:80")
		},
		eds: "0: m1/*1 10.1.0.1:80 | 1: m2/*2 192.0.2.1:15443*2(gateway)",
	},
	{
		reason: "there is no load balancing at random",
		given:  func(w *table) { w.Policy(web, servicepolicy.L7{LoadBalancer: servicepolicy.Random}) },
	},
	{
		reason: "ring hash without a header hashes the channel",
		given:  func(w *table) { w.Policy(web, servicepolicy.L7{LoadBalancer: servicepolicy.RingHash}) },
	},
	{
		reason: "weights must not sum to 0: such a route fails its requests",
		given:  func(w *table) { w.Policy(web, toCanary(0, 0)) },
		rds:    "/ -> error; / -> " + webCluster,
	},
	{
		reason: "weights must not sum to more than 32 bits: they are halved until they do not",
		given:  func(w *table) { w.Policy(web, toCanary(math.MaxUint32, math.MaxUint32)) },
		rds:    "/ -> " + webCanary + "*2147483647," + webCluster + "*2147483647; / -> " + webCluster,
	},
	{
		reason: "regular expressions must compile: otherwise no request matches",
		given: func(w *table) {
			w.Policy(web, matching(servicepolicy.Match{Path: servicepolicy.StringMatch{Regex: "("}}))
		},
		rds: "/ -> " + webCluster,
	},
	{
		reason: "regular expressions of headers must compile too",
		given: func(w *table) {
			w.Policy(web, matching(servicepolicy.Match{Headers: []servicepolicy.HeaderMatch{{Name: "a", Value: servicepolicy.StringMatch{Regex: "["}}}}))
		},
		rds: "/ -> " + webCluster,
	},
	{
		reason: "all calls are POST, but gRPC has no header that says so",
		given:  func(w *table) { w.Policy(web, matching(servicepolicy.Match{Method: "POST"})) },
		rds:    "/ -> " + webCanary + "; / -> " + webCluster,
	},
	{
		reason: "no call is GET",
		given:  func(w *table) { w.Policy(web, matching(servicepolicy.Match{Method: "GET"})) },
		rds:    "/ -> " + webCluster,
	},
	{
		reason: "header names match in lower case only",
		given: func(w *table) {
			w.Policy(web, matching(servicepolicy.Match{Headers: []servicepolicy.HeaderMatch{{Name: "X-Canary", Value: servicepolicy.StringMatch{Exact: "1"}}}}))
		},
		rds: "/ x-canary=1 -> " + webCanary + "; / -> " + webCluster,
	},
	{
		reason: "retries need at least one attempt",
		given: func(w *table) {
			w.Policy(web, servicepolicy.L7{Retries: &servicepolicy.Retries{On: []string{"unavailable"}}})
		},
	},
	{
		reason: "backoff must be positive, and its maximum no less",
		given: func(w *table) {
			w.Policy(web, servicepolicy.L7{Retries: &servicepolicy.Retries{
				Attempts: 1, On: []string{"unavailable"}, Backoff: -time.Second, MaxBackoff: time.Millisecond,
			}})
		},
	},
	{
		reason: "outlier detection has bounds: shares of a hundred, positive times",
		given: func(w *table) {
			w.Policy(web, servicepolicy.L7{Outliers: &servicepolicy.Outliers{MaxPercent: 1000, Interval: -1, BaseEjection: 24 * time.Hour}})
		},
	},
	{
		reason: "a fault that aborts needs a status",
		given:  func(w *table) { w.Policy(web, servicepolicy.L7{Fault: &servicepolicy.Fault{AbortPercent: 10}}) },
	},
	{
		reason: "status codes end at 16: such a policy is left out as a whole",
		given: func(w *table) {
			w.Policy(web, servicepolicy.L7{Fault: &servicepolicy.Fault{AbortPercent: 100, AbortGRPC: 99}})
		},
	},
	{
		reason: "text must be UTF-8, or the resource cannot be encoded",
		given: func(w *table) {
			w.Policy(web, matching(servicepolicy.Match{Path: servicepolicy.StringMatch{Prefix: "/\xff"}}))
		},
		rds: "/ -> " + webCluster,
	},
}

func TestGRPCClientsRefuseNothing(t *testing.T) {
	for _, test := range nacks {
		t.Run(test.reason, func(t *testing.T) {
			w := newTable(t, "m1", "m2", "m3")
			w.Export(web, []string{"m1", "m2"})
			w.Serve(web, "m1", "10.1.0.1:80")
			w.Serve(web, "m2", "10.2.0.1:80")
			test.given(w)
			w.Publish()
			c := serve(t, w, "m1", ads.Limits{}).SotW(grpcClient)
			if test.eds != "" {
				c.Request(EDS, webCluster).Equals(webCluster + " " + test.eds)
			}
			if test.rds != "" {
				c.Request(RDS, webTarget).Equals(webTarget + " " + test.rds)
			}
			accepted(t, w)
		})
	}
}

// accepted has the xDS client of grpc-go ask for web in m1, and waits until it has accepted a resource of each type.
func accepted(t *testing.T, w *table) {
	t.Helper()
	server := ads.New(ads.Config{Kinds: xds.Kinds(), Log: testr.New(t), Source: xds.NewSource(xds.Options{
		Snapshots: w, Log: testr.New(t),
		Identify: func(*peer.Peer) (xds.Identity, error) { return xds.Identity{Cluster: "m1", Name: "test"}, nil },
	})})
	listener := listen(t)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Close)
	call(t, listener.Addr().String(), "xds:///"+webTarget).connect()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < patience; <-tick.C {
		types := 0
		for _, state := range server.Clients() {
			for _, kind := range state.Kinds {
				if kind.LastNACK != nil {
					t.Fatalf("NACK of %s: %s", kind.Type, kind.LastNACK.Message)
				}
				if kind.Held > 0 && kind.Acked == kind.Held {
					types++
				}
			}
		}
		if types == 4 {
			return
		}
	}
	t.Fatalf("the client did not accept everything: %+v", server.Clients())
}
