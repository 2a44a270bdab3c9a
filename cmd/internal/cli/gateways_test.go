package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// operator answers as a hub does that agents talk to. What a test does not set is not asked for.
type operator struct {
	gateways *agentpb.ListGatewaysResponse
	tunnels  *agentpb.ListTunnelsResponse
	stats    func() *agentpb.StatsResponse
	trace    func(*agentpb.TraceRequest) (*agentpb.TraceResponse, error)
	watch    func(send func(*agentpb.WatchResponse)) // its end ends the stream
}

func (o *operator) ListGateways(context.Context, *agentpb.ListGatewaysRequest) (*agentpb.ListGatewaysResponse, error) {
	return o.gateways, nil
}

func (o *operator) ListTunnels(context.Context, *agentpb.ListTunnelsRequest) (*agentpb.ListTunnelsResponse, error) {
	return o.tunnels, nil
}

func (o *operator) GetStats(context.Context, *agentpb.StatsRequest) (*agentpb.StatsResponse, error) {
	return o.stats(), nil
}

func (o *operator) Trace(_ context.Context, r *agentpb.TraceRequest) (*agentpb.TraceResponse, error) {
	return o.trace(r)
}

func (o *operator) Watch(_ *agentpb.WatchRequest, out grpc.ServerStreamingServer[agentpb.WatchResponse]) error {
	o.watch(func(r *agentpb.WatchResponse) { _ = out.Send(r) })
	return status.Error(codes.Unavailable, "the story is over")
}

// serve has an operator answer at an address of its own.
func (h *hub) serve(t *testing.T, o *operator) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := grpc.NewServer(grpc.Creds(credentials.NewTLS(h.server.TLSConfig())))
	agentpb.RegisterOperationsServer(serving, o)
	done := make(chan error, 1)
	go func() { done <- serving.Serve(listener) }()
	t.Cleanup(func() {
		serving.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// infos adds ClusterInfos whose ids are their names with an i in front.
func (h *hub) infos(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		info := &v1alpha1.ClusterInfo{
			ObjectMeta: metav1.ObjectMeta{Namespace: api.DefaultNamespace, Name: name}, Status: v1alpha1.ClusterInfoStatus{ClusterID: "i" + name},
		}
		if err := h.client.Create(t.Context(), info); err != nil {
			t.Fatal(err)
		}
	}
}

// reannounce says that hubs serve somewhere else.
func (h *hub) reannounce(t *testing.T, addresses ...string) {
	t.Helper()
	announced := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: api.DefaultNamespace, Name: xdsConfigMap}}
	if err := h.client.Delete(t.Context(), announced); err != nil {
		t.Fatal(err)
	}
	h.announce(t, addresses...)
}

func member(name string) *corev1b1.KubeFedCluster {
	return &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: api.DefaultNamespace, Name: name}}
}

func (h *hub) info(t *testing.T, name string) *v1alpha1.ClusterInfo {
	t.Helper()
	info := &v1alpha1.ClusterInfo{}
	if err := h.client.Get(t.Context(), client.ObjectKey{Namespace: api.DefaultNamespace, Name: name}, info); err != nil {
		t.Fatal(err)
	}
	return info
}

func millisAgo(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }

// has tells whether a line of a text has all words, in this order.
func has(text string, words ...string) bool {
	return slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		for _, word := range words {
			i := strings.Index(line, word)
			if i < 0 {
				return false
			}
			line = line[i+len(word):]
		}
		return true
	})
}

func TestGetGateways(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1", "m2")
	if _, _, err := execute(t, h.host, "get", "gateways"); err == nil || !strings.Contains(err.Error(), "--xds-advertise") {
		t.Errorf("without an announcement: %v", err)
	}
	fresh := &operator{gateways: &agentpb.ListGatewaysResponse{}}
	knowing := &operator{gateways: &agentpb.ListGatewaysResponse{Gateways: []*agentpb.Gateway{
		{
			Cluster: "im1", Node: "n1", Outside: "192.0.2.1", Inside: "10.0.0.1", Passthrough: 15443, Tunnel: 15445, Connected: true, SinceMs: millisAgo(time.Hour),
			ReportedMs: millisAgo(time.Second), Health: agentpb.Health_HEALTH_UP, HealthSinceMs: millisAgo(30 * time.Minute), Reason: "1 of 1", Version: "v9",
		},
		{
			Cluster: "im2", Node: "n1", Outside: "192.0.2.2", Tunnel: 15445, SinceMs: millisAgo(time.Minute), Health: agentpb.Health_HEALTH_DOWN,
			HealthSinceMs: millisAgo(40 * time.Minute), Reason: "1 of 1 observing clusters do not reach it: im1",
		},
		{Cluster: "im2", Outside: "192.0.2.3", Tunnel: 15445},
		{Cluster: "im2", Node: "n3", Outside: "192.0.2.4", Tunnel: 15445, Connected: true, LocalProblem: "no pod answers"},
		{Cluster: "im2", Node: "n4", Inside: "10.0.0.4", Connected: true, Leaving: true},
	}}}
	gone := deaf(t)
	h.announce(t, h.serve(t, fresh), h.serve(t, knowing), gone)
	out, told, err := execute(t, h.host, "get", "gateways")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{
		{"CLUSTER", "NODE", "ADDRESS", "TUNNELS AT", "HEALTH", "SINCE", "AGENT", "WHY"},
		{"im1", "n1", "192.0.2.1", "15445", "Up", "30m", "Connected", "-"},
		{"im2", "n1", "192.0.2.2", "15445", "Down", "40m", "Gone", "do not reach it: im1"},
		{"im2", "<none>", "192.0.2.3", "Unknown", "None"},
		{"im2", "n3", "Connected", "no pod answers"},
		{"im2", "n4", "<none>", "-", "Unknown", "-", "Leaving"},
	} {
		if !has(out, line...) {
			t.Errorf("there is no line %v in\n%s", line, out)
		}
	}
	if !strings.Contains(told, "warning: the hub at "+gone) {
		t.Errorf("the replica that does not answer is not named: %q", told)
	}
	if out, _, _ = execute(t, h.host, "get", "gateway", "m1", "-o", "wide"); !has(out, "im1", "15443", "10.0.0.1", "v9") || strings.Contains(out, "im2") {
		t.Errorf("wide, of one cluster:\n%s", out)
	}
	out, _, err = execute(t, h.host, "get", "gateways", "-o", "json")
	var decoded struct{ Gateways []shownGateway }
	if err := errors.Join(err, json.Unmarshal([]byte(out), &decoded)); err != nil || len(decoded.Gateways) != 5 || decoded.Gateways[0].Agent != "Connected" {
		t.Errorf("json: %v\n%s", err, out)
	}
	if out, _, _ = execute(t, h.host, "get", "gateways", "im2", "-o", "name"); out != "im2/n1\nim2/-\nim2/n3\nim2/n4\n" {
		t.Errorf("names:\n%s", out)
	}
	if _, _, err := execute(t, h.host, "get", "gateways", "m7"); err == nil || !strings.Contains(err.Error(), `cluster "m7" is not known; the clusters are: m1, m2`) {
		t.Errorf("of a cluster that there is not: %v", err)
	}
}

// A hub of before knows nothing of gateways; a hub without agents has none.
func TestGetGatewaysOfNobody(t *testing.T) {
	h := newHub(t)
	h.announce(t, h.addr)
	if _, _, err := execute(t, h.host, "get", "gateways"); err == nil || !strings.Contains(err.Error(), "is older than this program") {
		t.Errorf("an older hub: %v", err)
	}
	h = newHub(t)
	h.announce(t, h.serve(t, &operator{gateways: &agentpb.ListGatewaysResponse{}, tunnels: &agentpb.ListTunnelsResponse{}}))
	for what, want := range map[string]string{"gateways": "No gateway is known", "tunnels": "No gateway has tunnels"} {
		if out, told, err := execute(t, h.host, "get", what); err != nil || out != "" || !strings.Contains(told, want) {
			t.Errorf("%s: %v, %q, %q", what, err, out, told)
		}
	}
}

func TestGetTunnels(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1", "m2", "m3")
	tunnel := func(from, to string, s *agentpb.Sight) *agentpb.Tunnel {
		s.Cluster = to
		return &agentpb.Tunnel{Cluster: from, Node: "n1", Sight: s}
	}
	h.announce(t, h.serve(t, &operator{tunnels: &agentpb.ListTunnelsResponse{Tunnels: []*agentpb.Tunnel{
		tunnel("im1", "im2", &agentpb.Sight{
			Address: "192.0.2.2:15445", Health: agentpb.Health_HEALTH_UP, RttUs: 20123, Tunnels: 4, Wanted: 4, Streams: 17, SinceMs: millisAgo(time.Hour), HeardMs: millisAgo(0),
		}),
		tunnel("im1", "im3", &agentpb.Sight{Address: "192.0.2.3:15445", Health: agentpb.Health_HEALTH_DOWN, Wanted: 4, Problem: "connection refused"}),
		tunnel("im2", "im3", &agentpb.Sight{Address: "192.0.2.3:15445"}),
	}}}))
	out, _, err := execute(t, h.host, "get", "tunnels")
	if err != nil || !has(out, "im1", "n1", "im2", "192.0.2.2:15445", "Up", "60m", "4/4", "20.123ms", "17", "-") ||
		!has(out, "im1", "im3", "Down", "-", "0/4", "connection refused") || !has(out, "im2", "im3", "Unknown") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, _ = execute(t, h.host, "get", "tunnels", "m2", "--no-headers"); strings.Count(out, "\n") != 2 || strings.Contains(out, "refused") {
		t.Errorf("to and from one cluster:\n%s", out)
	}
}

func TestTrace(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1", "m2")
	var asked *agentpb.TraceRequest
	var answer *agentpb.TraceResponse
	o := &operator{trace: func(r *agentpb.TraceRequest) (*agentpb.TraceResponse, error) {
		if asked = r; answer == nil {
			return nil, status.Error(codes.FailedPrecondition, "no gateway of cluster im1 is connected to this hub")
		}
		return answer, nil
	}}
	h.announce(t, h.serve(t, o))
	_, _, err := execute(t, h.host, "trace", "shop/web", "--from", "m1")
	if err == nil || !strings.Contains(err.Error(), "no gateway of cluster im1 is connected") || !strings.Contains(err.Error(), "hansa get gateways im1") {
		t.Errorf("without gateways: %v", err)
	}
	answer = &agentpb.TraceResponse{Node: "n1", Hops: []*agentpb.Hop{
		{Name: "decide", Cluster: "im1", TookUs: 100, Detail: "im2"}, {Name: "tunnel", Cluster: "im2", Address: "192.0.2.2:15445", TookUs: 20000},
	}}
	out, _, err := execute(t, h.host, "trace", "shop/web", "--from", "im1", "--port", "http")
	if err != nil || !has(out, "decide", "im1", "-", "100µs", "ok: im2") || !has(out, "tunnel", "im2", "192.0.2.2:15445", "20ms", "ok") || !has(out, "It arrived.") {
		t.Errorf("%v\n%s", err, out)
	}
	if asked.GetCluster() != "im1" || asked.GetNamespace() != "shop" || asked.GetName() != "web" || asked.GetPort() != "http" {
		t.Errorf("asked for %v", asked)
	}
	answer.Hops[1].Problem, answer.Hops[1].Next = "handshake: certificate revoked", "ask who revoked it"
	out, _, err = execute(t, h.host, "trace", "shop/web", "--from", "m1")
	if err == nil || !strings.Contains(err.Error(), `the probe failed at hop "tunnel" in cluster im2: handshake: certificate revoked. Ask who revoked it`) || !has(out, "tunnel", "FAILED: handshake") {
		t.Errorf("a failing hop: %v\n%s", err, out)
	}
	answer.Hops[1].Next = ""
	if _, _, err = execute(t, h.host, "trace", "shop/web", "--from", "m1"); err == nil || !strings.Contains(err.Error(), "revoked. See how the tunnels stand: hansa get tunnels im1") {
		t.Errorf("a gateway that does not say what to do: %v", err)
	}
	out, _, err = execute(t, h.host, "trace", "shop/web", "--from", "m1", "-o", "json")
	var decoded traced
	if problem := json.Unmarshal([]byte(out), &decoded); err == nil || problem != nil || decoded.Arrived || decoded.Hops[1].Next == "" {
		t.Errorf("json: %v, %v\n%s", err, problem, out)
	}
	answer = &agentpb.TraceResponse{Node: "n1", Problem: "no cluster exports shop/web"}
	if _, _, err = execute(t, h.host, "trace", "shop/web", "--from", "m1"); err == nil || !strings.Contains(err.Error(), "no cluster exports shop/web. What would a connection use? hansa explain service shop/web --from im1") {
		t.Errorf("no probe: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1")
	read := func(name string) *v1alpha1.Revocation {
		revocation := &v1alpha1.Revocation{}
		if err := h.client.Get(t.Context(), client.ObjectKey{Namespace: api.DefaultNamespace, Name: name}, revocation); err != nil {
			t.Fatal(err)
		}
		return revocation
	}
	if _, _, err := execute(t, h.host, "revoke", "m1"); err == nil || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("nobody confirmed: %v", err)
	}
	begin := time.Now().Truncate(time.Second)
	out, _, err := execute(t, h.host, "revoke", "m1", "--yes", "--reason", "stolen")
	if err != nil || !strings.Contains(out, "certificates of cluster im1 that were issued before") {
		t.Fatalf("%v\n%s", err, out)
	}
	first := read("im1")
	if first.Spec.Reason != "stolen" || first.Spec.Before.Time.Before(begin) || first.Spec.Before.After(time.Now()) {
		t.Errorf("revocation %+v", first.Spec)
	}
	if _, _, err := execute(t, h.host, "revoke", "m1", "--yes"); err != nil || read("im1").Spec.Reason != "" {
		t.Errorf("once more: %v, %+v", err, read("im1").Spec)
	}
	if _, _, err := execute(t, h.host, "revoke", "long-gone", "--yes"); err != nil || read("long-gone").Spec.Before.IsZero() {
		t.Errorf("a cluster that is gone: %v", err)
	}
	if _, _, err := execute(t, h.host, "revoke", "No.Such", "--yes"); err == nil || !strings.Contains(err.Error(), "neither the name of a cluster") {
		t.Errorf("what is no cluster: %v", err)
	}
	if out, _, err := execute(t, h.host, "revoke", "m1", "--undo"); err != nil || !strings.Contains(out, "taken back") {
		t.Errorf("undo: %v\n%s", err, out)
	}
	if _, _, err := execute(t, h.host, "revoke", "m1", "--undo"); err == nil || !strings.Contains(err.Error(), "nothing of cluster im1 is revoked") {
		t.Errorf("undo twice: %v", err)
	}
}
