package xds_test

import (
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

func TestStatusTellsWhoIsConnected(t *testing.T) {
	h := serve(t, shop(t), "m1", ads.Limits{})
	c := h.Delta(in("a", grpcClient))
	c.Request(CDS).Names(webCluster)
	c.Ask(EDS, webCluster)
	refused := c.next(EDS)
	c.send(EDS, refused.nonce, "the endpoints of "+webCluster+" are odd", nil, nil)
	admin := metadata.AppendToOutgoingContext(t.Context(), "admin", "yes")
	csds := statusv3.NewClientStatusDiscoveryServiceClient(h.dial())

	got := eventually(t, func() (*statusv3.ClientConfig, bool) {
		res, err := csds.FetchClientStatus(admin, &statusv3.ClientStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.GetConfig()) != 1 {
			t.Fatalf("got %d clients; want 1", len(res.GetConfig()))
		}
		configs := res.GetConfig()[0].GetGenericXdsConfigs()
		return res.GetConfig()[0], len(configs) == 2 && configs[1].GetErrorState() != nil &&
			configs[0].GetClientStatus() == adminv3.ClientResourceStatus_ACKED
	})
	cds, eds := got.GetGenericXdsConfigs()[0], got.GetGenericXdsConfigs()[1]
	if cds.GetTypeUrl() != CDS || cds.GetName() != "*" || cds.GetConfigStatus() != statusv3.ConfigStatus_SYNCED || cds.GetVersionInfo() == "" {
		t.Errorf("clusters: %v", cds)
	}
	if eds.GetName() != "1 names" || eds.GetConfigStatus() != statusv3.ConfigStatus_ERROR ||
		eds.GetClientStatus() != adminv3.ClientResourceStatus_NACKED || !strings.Contains(eds.GetErrorState().GetDetails(), "odd") {
		t.Errorf("endpoints: %v", eds)
	}
	fields := got.GetNode().GetMetadata().GetFields()
	for key, want := range map[string]string{
		xds.StatusIdentity: "spiffe://clusterset.local/cluster/m1/client", xds.StatusView: "grpc/m1/a", xds.StatusProtocol: "delta",
	} {
		if fields[key].GetStringValue() != want {
			t.Errorf("%s is %v; want %s", key, fields[key], want)
		}
	}
	if _, err := time.ParseDuration(fields[xds.StatusLag].GetStringValue()); err != nil {
		t.Error(err)
	}
	if _, err := time.Parse(time.RFC3339, fields[xds.StatusSince].GetStringValue()); err != nil {
		t.Error(err)
	}
	if held := fields[xds.StatusTypes].GetStructValue().GetFields()[EDS].GetStructValue().GetFields()["held"].GetNumberValue(); held != 1 {
		t.Errorf("holds %v assignments; want 1", held)
	}
}

func TestStatusOfOneNode(t *testing.T) {
	h := serve(t, shop(t), "m1", ads.Limits{})
	h.Delta(grpcClient).Request(CDS).Names(webCluster)
	stream, err := statusv3.NewClientStatusDiscoveryServiceClient(h.dial()).
		StreamClientStatus(metadata.AppendToOutgoingContext(t.Context(), "admin", "yes"))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{t.Name(): 1, "other": 0} {
		if err := stream.Send(&statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{{
			NodeId: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id}},
		}}}); err != nil {
			t.Fatal(err)
		}
		res, err := stream.Recv()
		if err != nil || len(res.GetConfig()) != want {
			t.Fatalf("%s: got %v, %v; want %d clients", id, res, err, want)
		}
	}
	if err := stream.Send(&statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v; want InvalidArgument", err)
	}
}

func TestStatusIsForAdministrators(t *testing.T) {
	h := serve(t, shop(t), "m1", ads.Limits{})
	_, err := statusv3.NewClientStatusDiscoveryServiceClient(h.dial()).FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v; want PermissionDenied", err)
	}
}

// eventually asks until it is true.
func eventually[T any](t *testing.T, ask func() (T, bool)) T {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		got, ok := ask()
		if ok {
			return got
		}
		if time.Since(begin) > patience {
			t.Fatalf("still %v", got)
		}
	}
}
