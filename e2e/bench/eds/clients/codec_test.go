package clients_test

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
)

func TestRequestsAreWhole(t *testing.T) {
	for name, names := range map[string][]string{"None": nil, "One": {"outbound|80||a.b"}, "Several": {"a", "", "ü"}} {
		t.Run(name, func(t *testing.T) {
			want := &discoveryv3.DiscoveryRequest{TypeUrl: "type", ResponseNonce: "1.2", VersionInfo: "v", ResourceNames: names}
			encoded, err := clients.Encode(&discoveryv3.DiscoveryRequest{TypeUrl: "type", ResponseNonce: "1.2", VersionInfo: "v"}, names)
			if err != nil {
				t.Fatal(err)
			}
			got := &discoveryv3.DiscoveryRequest{}
			if err := proto.Unmarshal(encoded, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("a request with names of its own encoding reads otherwise: -want +got:\n%s", diff)
			}
		})
	}
}
