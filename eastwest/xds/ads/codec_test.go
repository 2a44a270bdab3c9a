package ads_test

import (
	"slices"
	"strconv"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// TestDecode reads requests whose names may be those of the request before.
func TestDecode(t *testing.T) {
	answer := &discoveryv3.DiscoveryRequest{
		VersionInfo: "v", Node: &corev3.Node{Id: "n"}, ResourceNames: []string{"b", "a", ""}, TypeUrl: EDS,
		ResponseNonce: "1.2", ErrorDetail: &statuspb.Status{Message: "no"},
	}
	without := func(edit func(*discoveryv3.DiscoveryRequest)) *discoveryv3.DiscoveryRequest {
		edited, _ := proto.Clone(answer).(*discoveryv3.DiscoveryRequest)
		edit(edited)
		return edited
	}
	tests := map[string]struct {
		before []string
		sent   *discoveryv3.DiscoveryRequest
		names  []string
		others bool
	}{
		"first":               {nil, answer, answer.GetResourceNames(), true},
		"first without names": {nil, without(func(r *discoveryv3.DiscoveryRequest) { r.ResourceNames = nil }), nil, false},
		"the same":            {[]string{"b", "a", ""}, answer, nil, false},
		"in another order":    {[]string{"", "a", "b"}, answer, nil, false},
		"one more":            {[]string{"a", "b"}, answer, answer.GetResourceNames(), true},
		"one twice":           {[]string{"b", "b", ""}, answer, answer.GetResourceNames(), true},
		"none any more":       {[]string{"a"}, without(func(r *discoveryv3.DiscoveryRequest) { r.ResourceNames = nil }), nil, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			encoded, err := proto.Marshal(test.sent)
			if err != nil {
				t.Fatal(err)
			}
			got, others, err := ads.Decoded(encoded, test.before)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.GetResourceNames(), test.names) || others != test.others {
				t.Errorf("the names are %q, others %t; want %q, %t", got.GetResourceNames(), others, test.names, test.others)
			}
			rest, _ := proto.Clone(test.sent).(*discoveryv3.DiscoveryRequest)
			rest.ResourceNames = got.GetResourceNames()
			if !proto.Equal(got, rest) {
				t.Errorf("got %v, want %v", got, rest)
			}
		})
	}
}

// FuzzDecode compares with the usual codec.
func FuzzDecode(f *testing.F) {
	encoded, err := proto.Marshal(&discoveryv3.DiscoveryRequest{ResourceNames: []string{"a", "b"}, TypeUrl: EDS, Node: &corev3.Node{Id: "n"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte{0x1a, 1, 0xff})     // a name that is not UTF-8
	f.Add([]byte{0x1a, 5, 'a'})      // a name that ends early
	f.Add([]byte{0x18, 1, 0x22, 0})  // the names' number with another type
	f.Add([]byte{0x1a, 0, 0x1b, 28}) // groups
	f.Fuzz(func(t *testing.T, encoded []byte) {
		want := &discoveryv3.DiscoveryRequest{}
		wrong := proto.Unmarshal(encoded, want)
		got, _, err := ads.Decoded(encoded, nil)
		if (err == nil) != (wrong == nil) {
			t.Fatalf("the error is %v; protobuf says %v", err, wrong)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// BenchmarkDecode is an answer with a thousand names.
func BenchmarkDecode(b *testing.B) {
	answer := &discoveryv3.DiscoveryRequest{TypeUrl: EDS, ResponseNonce: "1.2", VersionInfo: "v"}
	for i := range 1000 {
		answer.ResourceNames = append(answer.ResourceNames, "outbound|80||svc-"+strconv.Itoa(i)+".ns.svc.clusterset.local")
	}
	encoded, err := proto.Marshal(answer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ads.Decoded(encoded, answer.ResourceNames); err != nil {
			b.Fatal(err)
		}
	}
}
