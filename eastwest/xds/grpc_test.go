package xds_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return listener
}

// backend serves gRPC health checks on loopback, Watch included, which lasts until the client goes.
func backend(t *testing.T) (string, *grpc.Server) {
	t.Helper()
	listener := listen(t)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server
}

// control serves a table to gRPC clients in m1, over a real connection, and returns its address.
func control(t *testing.T, w *table) string {
	t.Helper()
	server := ads.New(ads.Config{Kinds: xds.Kinds(), Log: testr.New(t), Source: xds.NewSource(xds.Options{
		Snapshots: w, Log: testr.New(t),
		Identify: func(*peer.Peer) (xds.Identity, error) { return xds.Identity{Cluster: "m1", Name: "test"}, nil },
	})})
	listener := listen(t)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		for _, state := range server.Clients() {
			for _, kind := range state.Kinds {
				if kind.LastNACK != nil {
					t.Errorf("NACK of %s: %s", kind.Type, kind.LastNACK.Message)
				}
			}
		}
		server.Close()
	})
	return listener.Addr().String()
}

// caller calls a service through the xDS client of grpc-go.
type caller struct {
	t     *testing.T
	conn  *grpc.ClientConn
	check healthpb.HealthClient
}

func call(t *testing.T, control, target string) *caller {
	t.Helper()
	resolver, err := grpcxds.NewXDSResolverWithConfigForTesting(fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"authorities": {"clusterset.local": {
			"client_listener_resource_name_template": "xdstp://clusterset.local/envoy.config.listener.v3.Listener/%%s"}},
		"node": {"id": %q, "locality": {"zone": "a"}}}`, control, t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(resolver))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{t: t, conn: conn, check: healthpb.NewHealthClient(conn)}
}

// connect has the client begin, without a call.
func (c *caller) connect() { c.conn.Connect() }

// one makes a call with headers and returns who answered.
func (c *caller) one(headers ...string) (string, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(c.t.Context(), headers...), patience)
	defer cancel()
	var p peer.Peer
	_, err := c.check.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&p), grpc.WaitForReady(false))
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// must is one that does not fail.
func (c *caller) must(headers ...string) string {
	c.t.Helper()
	who, err := c.one(headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return who
}

// until calls until the answer is as wanted; no call may fail.
func (c *caller) until(address string, headers ...string) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for c.must(headers...) != address {
		if time.Since(begin) > patience {
			c.t.Fatalf("%s is not reached", address)
		}
	}
	return time.Since(begin)
}

// pair is a table in which m1 and m2 serve web, one backend each.
func pair(t *testing.T) (w *table, near, far string, nearServer *grpc.Server) {
	t.Helper()
	near, nearServer = backend(t)
	far, _ = backend(t)
	w = newTable(t, "m1", "m2")
	w.Export(web, []string{"m1", "m2"})
	w.Serve(web, "m1", near+"@a")
	w.Serve(web, "m2", far+"@a")
	w.Publish()
	return w, near, far, nearServer
}

// TestDemotionFailsNoCall takes the first of two priorities away, brings it back, and kills it after it was taken away
// again.
func TestDemotionFailsNoCall(t *testing.T) {
	for _, target := range []string{"xds:///" + webTarget, "xds://clusterset.local/" + webTarget} {
		t.Run(target, func(t *testing.T) {
			w, near, far, nearServer := pair(t)
			c := call(t, control(t, w), target)
			c.until(near)
			w.Serve(web, "m1")
			w.Publish()
			t.Logf("demotion took %v", c.until(far))
			w.Serve(web, "m1", near)
			w.Publish()
			t.Logf("return took %v", c.until(near))
			w.SetCluster(clusterset.Cluster{ID: "m1", Network: "flat", Region: "r-m1", State: clusterset.Draining})
			w.Publish()
			c.until(far)
			nearServer.Stop()
			for range 100 {
				c.must()
			}
		})
	}
}

func TestACanaryByHeaderAndByWeight(t *testing.T) {
	w, near, far, _ := pair(t)
	all := servicepolicy.Subset{}
	canary := servicepolicy.Subset{Clusters: []string{"m2"}}
	header := []servicepolicy.HeaderMatch{{Name: "X-Canary", Value: servicepolicy.StringMatch{Exact: "yes"}}}
	policy := servicepolicy.L7{Routes: []servicepolicy.Route{
		{Matches: []servicepolicy.Match{{Headers: header}}, Destinations: []servicepolicy.Destination{{Subset: canary, Weight: 1}}},
		{
			Matches:      []servicepolicy.Match{{Path: servicepolicy.StringMatch{Prefix: "/grpc.health."}}},
			Destinations: []servicepolicy.Destination{{Subset: all, Weight: 3}, {Subset: canary, Weight: 1}},
		},
	}}
	w.Policy(web, policy)
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	for range 20 {
		if who := c.must("x-canary", "yes"); who != far {
			t.Fatalf("a call with the header went to %s; want %s", who, far)
		}
	}
	counts := map[string]int{}
	for range 400 {
		counts[c.must()]++
	}
	if counts[near] < 240 || counts[far] < 50 {
		t.Errorf("got %v; want about 300 and 100", counts)
	}
	policy.Routes = policy.Routes[:1]
	w.Policy(web, policy)
	w.Publish()
	for begin, inARow := time.Now(), 0; inARow < 50; inARow++ {
		if c.must() == far {
			inARow = 0
		}
		if time.Since(begin) > patience {
			t.Fatal("the weights did not end")
		}
	}
}

func TestADestinationMayBeAnotherService(t *testing.T) {
	w, near, _, _ := pair(t)
	other, _ := backend(t)
	next := clusterset.Key{Namespace: "shop", Name: "web-next"}
	to := servicepolicy.Subset{Name: "web-next"}
	w.Policy(web, servicepolicy.L7{Routes: []servicepolicy.Route{{
		Matches:      []servicepolicy.Match{{Headers: []servicepolicy.HeaderMatch{{Name: "next"}}}},
		Destinations: []servicepolicy.Destination{{Subset: to, Weight: 1}},
	}}})
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	begin := time.Now()
	if who := c.must(); who != near {
		t.Fatalf("a call without the header went to %s; want %s", who, near)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the channel waited %v for a service that does not exist", took)
	}
	if who, err := c.one("next", "1"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to a service that does not exist: got %s, %v", who, err)
	}
	w.Export(next, []string{"m2"})
	w.Serve(next, "m2", other)
	w.Publish()
	for begin := time.Now(); ; {
		if who, err := c.one("next", "1"); err == nil && who == other {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("the other service is not reached")
		}
	}
}

func TestRingHashKeepsTheEndpoint(t *testing.T) {
	w, near, far, _ := pair(t)
	third, _ := backend(t)
	w.Serve(web, "m1", near+"@a", far+"@a", third+"@a")
	w.Policy(web, servicepolicy.L7{LoadBalancer: servicepolicy.RingHash, HashHeader: "User"})
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	used := map[string]bool{}
	for user := range 40 {
		id := strconv.Itoa(user)
		first := c.must("user", id)
		used[first] = true
		for range 5 {
			if again := c.must("user", id); again != first {
				t.Fatalf("user %s went to %s and %s", id, first, again)
			}
		}
	}
	if len(used) < 2 {
		t.Errorf("all users went to %v", used)
	}
}

func TestFaultsAreInjected(t *testing.T) {
	w, near, _, _ := pair(t)
	c := call(t, control(t, w), "xds:///"+webTarget)
	c.until(near)
	w.Policy(web, servicepolicy.L7{Fault: &servicepolicy.Fault{AbortPercent: 100, AbortHTTP: 503, AbortGRPC: uint32(codes.DataLoss)}})
	w.Publish()
	for begin := time.Now(); ; {
		if _, err := c.one(); status.Code(err) == codes.DataLoss {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("no call fails")
		}
	}
	w.Policy(web, servicepolicy.L7{})
	w.Publish()
	for begin := time.Now(); ; {
		if _, err := c.one(); err == nil {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("calls go on failing")
		}
	}
}

func TestTheBreakerBoundsWhatIsUnderWay(t *testing.T) {
	w, _, _, _ := pair(t)
	w.Policy(web, servicepolicy.L7{Breaker: &servicepolicy.Breaker{MaxRequests: 2}})
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 {
		stream, err := c.check.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.one(); status.Code(err) != codes.Unavailable {
		t.Errorf("a third request: %v; want Unavailable", err)
	}
	cancel()
	for begin := time.Now(); ; {
		if _, err := c.one(); err == nil {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("the breaker does not let go")
		}
	}
}

func TestATimeoutEndsCalls(t *testing.T) {
	release := make(chan struct{})
	address := answering(t, func() error {
		<-release
		return nil
	})
	t.Cleanup(func() { close(release) })
	w := newTable(t, "m1")
	w.Export(web, []string{"m1"})
	w.Serve(web, "m1", address)
	w.Policy(web, servicepolicy.L7{Timeout: 50 * time.Millisecond})
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	begin := time.Now()
	if _, err := c.one(); status.Code(err) != codes.DeadlineExceeded || time.Since(begin) > patience/2 {
		t.Errorf("got %v after %v; want DeadlineExceeded after 50ms", err, time.Since(begin))
	}
}

// answering is a backend whose answer to every call is what a function says. It returns its address.
func answering(t *testing.T, answer func() error) string {
	t.Helper()
	listener := listen(t)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return &healthpb.HealthCheckResponse{}, answer()
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// TestRetries counts what arrives at a server that is never available.
func TestRetries(t *testing.T) {
	var calls atomic.Int32
	address := answering(t, func() error {
		calls.Add(1)
		return status.Error(codes.Unavailable, "no")
	})
	w := newTable(t, "m1")
	w.Export(web, []string{"m1"})
	w.Serve(web, "m1", address)
	w.Policy(web, servicepolicy.L7{Retries: &servicepolicy.Retries{Attempts: 2, On: []string{"5xx"}, Backoff: time.Millisecond}})
	w.Publish()
	c := call(t, control(t, w), "xds:///"+webTarget)
	if _, err := c.one(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v; want Unavailable", err)
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d attempts; want 3", n)
	}
}
