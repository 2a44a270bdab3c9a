package servicepb_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

var web = clusterset.Key{Namespace: "shop", Name: "web"}

// everything is a service with a value in every field.
func everything(tb testing.TB) *clusterset.Service {
	tb.Helper()
	b := clusterset.NewBuilder(0)
	for i, cluster := range []string{"m1", "m2"} {
		b.SetExport(cluster, web, clusterset.Export{Created: time.Unix(int64(i), 5), Properties: &clusterset.Properties{
			Type: corev1.ServiceTypeClusterIP, Headless: true, SessionAffinity: corev1.ServiceAffinityClientIP, AffinityTimeout: 60,
			Ports:                 []clusterset.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, AppProtocol: "h2c"}},
			InternalTrafficPolicy: corev1.ServiceInternalTrafficPolicyLocal, TrafficDistribution: "PreferClose",
			IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
			Labels:     map[string]string{"a": "1", "b": "2", "c": "3"}, Annotations: map[string]string{"d": "4"},
		}})
		b.SetImport(cluster, web, clusterset.Import{
			ClusterIPs:   []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")},
			GatewayPorts: []clusterset.GatewayPort{{Protocol: corev1.ProtocolUDP, Port: 20018}, {Name: "http", Protocol: corev1.ProtocolTCP, Port: 20017}},
		})
	}
	b.SetExport("m3", web, clusterset.Export{}) // nothing is known of its Service
	b.SetEndpoints("m1", web, clusterset.Endpoints{Groups: []clusterset.Group{{
		Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Protocol: corev1.ProtocolTCP, Port: 8080}},
		Endpoints: []clusterset.Endpoint{{
			Addr: netip.MustParseAddr("10.0.0.1"), Node: clusterset.Intern("n1"), Zone: clusterset.Intern("z1"), Hostname: clusterset.Intern("web-0"),
			Conditions: clusterset.Ready | clusterset.Serving,
		}, {Addr: netip.MustParseAddr("fd00::2"), Conditions: clusterset.Terminating}},
	}}})
	b.SetEndpoints("m2", web, clusterset.Endpoints{}) // read, and there are none
	b.SetPolicy(web, clusterset.Policy{
		Failover:          []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{"m1"}}, {By: clusterset.Any}},
		Weights:           []clusterset.ClusterWeight{{Cluster: "m2", Weight: 7}},
		MinHealthyPercent: 50, Consumers: &clusterset.Consumers{Clusters: []string{"m1", "m2"}}, TTL: 30,
		Path: clusterset.Direct, FirstFlight: true,
		Passthrough: &clusterset.Passthrough{ProxyProtocol: true, Sources: []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}},
	})
	return b.Publish().Service(web)
}

func marshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

func TestAServiceIsReadAsItWasWritten(t *testing.T) {
	service := everything(t)
	value := marshal(t, servicepb.Whole(service))
	for range 20 {
		if again := marshal(t, servicepb.Whole(everything(t))); string(again) != string(value) {
			t.Fatal("equal content gives other bytes")
		}
	}
	facts, err := new(servicepb.Decoder).Service("shop/web", value)
	if err != nil {
		t.Fatal(err)
	}
	want := &servicepb.Facts{Key: web, Sources: service.Sources, Imports: service.Imports, Policy: service.Policy}
	if !reflect.DeepEqual(facts, want) {
		t.Errorf("read %+v, want %+v", facts, want)
	}
}

func TestAPartIsWhatTheClusterContributes(t *testing.T) {
	service := everything(t)
	facts, err := new(servicepb.Decoder).Service("shop/web", marshal(t, servicepb.Part(service, "m2")))
	if err != nil {
		t.Fatal(err)
	}
	want := &servicepb.Facts{Key: web, Sources: service.Sources[1:2], Imports: service.Imports[1:2], Policy: service.Policy}
	if !reflect.DeepEqual(facts, want) {
		t.Errorf("read %+v, want %+v", facts, want)
	}
}

func TestAClusterIsReadAsItWasWritten(t *testing.T) {
	for _, cluster := range []clusterset.Cluster{
		{ID: "m1"},
		{
			ID: "m2", Network: "flat", Region: "eu", Zone: "a", State: clusterset.Draining, ControlPlane: clusterset.Down, DataPlane: clusterset.Up,
			LastKnown: time.Unix(9, 8).UTC(),
			Gateways: []clusterset.Gateway{
				{Addr: netip.MustParseAddr("192.0.2.1"), Port: 15443, Health: clusterset.Down},
				{Addr: netip.MustParseAddr("2001:db8::1"), Port: 443},
				{Addr: netip.MustParseAddr("192.0.2.2"), Tunnel: 15445, Inside: netip.MustParseAddr("10.0.0.1"), Node: "n1"},
				{Inside: netip.MustParseAddr("fd00::1")},
			},
		},
	} {
		read, err := servicepb.DecodeCluster(cluster.ID, marshal(t, servicepb.OfCluster(&cluster)))
		if err != nil || !reflect.DeepEqual(read, cluster) {
			t.Errorf("read %+v, %v; want %+v", read, err, cluster)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	source := func(s *servicepb.Source) *servicepb.Service {
		return &servicepb.Service{Namespace: "shop", Name: "web", Sources: []*servicepb.Source{s}}
	}
	group := func(g *servicepb.Group) *servicepb.Service {
		return source(&servicepb.Source{Cluster: "m1", Endpoints: &servicepb.Endpoints{Groups: []*servicepb.Group{g}}})
	}
	for _, c := range []struct {
		reason string
		m      *servicepb.Service
		want   string
	}{
		{"another service than the name says", &servicepb.Service{Namespace: "shop", Name: "api"}, `about service "api"`},
		{"a name without a namespace", &servicepb.Service{Name: "shop/web"}, `in namespace ""`},
		{"a source without a cluster", source(&servicepb.Source{}), `cluster "" follows`},
		{"a cluster twice", &servicepb.Service{Namespace: "shop", Name: "web", Sources: []*servicepb.Source{{Cluster: "m1"}, {Cluster: "m1"}}}, `cluster "m1" follows cluster "m1"`},
		{"an import twice", &servicepb.Service{Namespace: "shop", Name: "web", Imports: []*servicepb.Import{{Cluster: "m1"}, {Cluster: "m1"}}}, `the import of cluster "m1"`},
		{"an import's address", &servicepb.Service{Namespace: "shop", Name: "web", Imports: []*servicepb.Import{{Cluster: "m1", Addresses: [][]byte{{1}}}}}, "an address has 1 bytes"},
		{"an endpoint's address", group(&servicepb.Group{Endpoints: []*servicepb.Endpoint{{Address: []byte{1, 2, 3}}}}), "an address has 3 bytes"},
		{"an endpoint without one", group(&servicepb.Group{Endpoints: []*servicepb.Endpoint{{}}}), "an address has 0 bytes"},
		{"conditions that are none", group(&servicepb.Group{Endpoints: []*servicepb.Endpoint{{Address: []byte{10, 0, 0, 1}, Conditions: 256}}}), "10.0.0.1 are 256"},
		{"a gateway's port", &servicepb.Service{Namespace: "shop", Name: "web", Imports: []*servicepb.Import{{Cluster: "m1", GatewayPorts: []*servicepb.GatewayPort{{Port: 65536}}}}}, "a port is 65536"},
		{"a source that is none", &servicepb.Service{Namespace: "shop", Name: "web", Policy: &servicepb.Policy{Passthrough: &servicepb.Passthrough{Sources: []string{"office"}}}}, `the source "office" is no range`},
		{"a source in another form", &servicepb.Service{Namespace: "shop", Name: "web", Policy: &servicepb.Policy{Passthrough: &servicepb.Passthrough{Sources: []string{"2001:DB8::/32"}}}}, "is no range"},
		{"a port that is none", group(&servicepb.Group{Ports: []*servicepb.TargetPort{{Port: 65536}}}), "a port is 65536"},
		{"a moment that is none", source(&servicepb.Source{Cluster: "m1", Created: &servicepb.Instant{Nanoseconds: 1e9}}), "1000000000 nanoseconds"},
		{"the moment that says nothing", source(&servicepb.Source{Cluster: "m1", Created: &servicepb.Instant{Seconds: time.Time{}.Unix()}}), "an instant has"},
	} {
		if _, err := new(servicepb.Decoder).Service("shop/web", marshal(t, c.m)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want %q", c.reason, err, c.want)
		}
	}
	if _, err := new(servicepb.Decoder).Service("shop/web", make([]byte, servicepb.MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "more than 16777216") {
		t.Errorf("a resource that is too large: %v", err)
	}
	for want, m := range map[string]*servicepb.Cluster{
		`about cluster "m2"`:    {Id: "m2"},
		"an address has 2":      {Id: "m1", Gateways: []*servicepb.Gateway{{Address: []byte{1, 2}}}},
		"a port is 70000":       {Id: "m1", Gateways: []*servicepb.Gateway{{Address: []byte{1, 2, 3, 4}, Port: 70000}}},
		"a port is 80000":       {Id: "m1", Gateways: []*servicepb.Gateway{{Address: []byte{1, 2, 3, 4}, Tunnel: 80000}}},
		"it has no address":     {Id: "m1", Gateways: []*servicepb.Gateway{{Port: 15443}}},
		"an address has 3":      {Id: "m1", Gateways: []*servicepb.Gateway{{Inside: []byte{1, 2, 3}}}},
		"4294967295 nanosecond": {Id: "m1", LastKnown: &servicepb.Instant{Nanoseconds: 1<<32 - 1}},
	} {
		if _, err := servicepb.DecodeCluster("m1", marshal(t, m)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

func TestRevocationsAreReadAsTheyWereWritten(t *testing.T) {
	want := []clusterset.Revocation{{Cluster: "m1", Before: time.Unix(7, 8).UTC()}, {Cluster: "m2", Before: time.Unix(9, 0).UTC()}}
	table, err := servicepb.DecodeTable(marshal(t, &servicepb.Table{Sum: 1, Revocations: servicepb.Revocations(want)}))
	if err != nil {
		t.Fatal(err)
	}
	if read, err := table.Revoked(); err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("read %v, %v; want %v", read, err, want)
	}
	for reason, revocations := range map[string][]*servicepb.Revocation{
		"follows cluster":    {{Cluster: "m2"}, {Cluster: "m1"}},
		`cluster "" follows`: {{}},
		"an instant has":     {{Cluster: "m1", Before: &servicepb.Instant{Nanoseconds: 1e9}}},
	} {
		if _, err := servicepb.DecodeTable(marshal(t, &servicepb.Table{Revocations: revocations})); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("the error is %v, want %q", err, reason)
		}
	}
}

func TestFieldsOfNewerHubsAreSkipped(t *testing.T) {
	value := marshal(t, servicepb.Whole(everything(t)))
	value = protowire.AppendTag(value, 99, protowire.BytesType)
	value = protowire.AppendString(value, "new")
	value = protowire.AppendTag(value, 98, protowire.Fixed32Type)
	value = protowire.AppendFixed32(value, 7)
	if _, err := new(servicepb.Decoder).Service("shop/web", value); err != nil {
		t.Error(err)
	}
}

// FuzzDecode compares what is read with what protocol buffers read, and looks for input that panics, or that is read as
// something which is then written differently.
func FuzzDecode(f *testing.F) {
	f.Add(marshal(f, servicepb.Whole(everything(f))), marshal(f, &servicepb.Cluster{Id: "m1", Gateways: []*servicepb.Gateway{{Address: []byte{1, 2, 3, 4}}}}))
	f.Add(marshal(f, servicepb.Part(everything(f), "m1")), []byte{0x0a, 2, 'm', '1'})
	f.Add([]byte{0x0a, 0xff}, []byte{0xff})
	f.Add([]byte{}, marshal(f, &servicepb.Table{Revocations: []*servicepb.Revocation{{Cluster: "m1", Before: &servicepb.Instant{Seconds: 5}}}}))
	f.Fuzz(func(t *testing.T, service, cluster []byte) {
		if read, err := servicepb.DecodeCluster("m1", cluster); err == nil {
			again, err := servicepb.DecodeCluster("m1", marshal(t, servicepb.OfCluster(&read)))
			if err != nil || !reflect.DeepEqual(read, again) {
				t.Fatalf("a cluster is another one when it is read again: %v", err)
			}
		}
		if table, err := servicepb.DecodeTable(cluster); err == nil {
			revoked, _ := table.Revoked()
			again, err := servicepb.DecodeTable(marshal(t, &servicepb.Table{Revocations: servicepb.Revocations(revoked)}))
			if read, _ := again.Revoked(); err != nil || !reflect.DeepEqual(read, revoked) {
				t.Fatalf("revocations are others when they are read again: %v", err)
			}
		}
		m := &servicepb.Service{}
		wrong := proto.Unmarshal(service, m)
		facts, err := new(servicepb.Decoder).Service(m.GetNamespace()+"/"+m.GetName(), service)
		if err != nil {
			return
		}
		if wrong != nil {
			t.Fatalf("what is no Service is read as one: %v", wrong)
		}
		if err := equal(m, facts); err != nil {
			t.Fatal(err)
		}
	})
}

// equal compares a message with what was read of it.
func equal(m *servicepb.Service, facts *servicepb.Facts) error {
	made := &clusterset.Service{Key: facts.Key, Sources: facts.Sources, Imports: facts.Imports, Policy: facts.Policy}
	got, want := servicepb.Whole(made), proto.Clone(m).(*servicepb.Service)
	drop(want)
	if !proto.Equal(got, want) {
		return fmt.Errorf("read\n%v\nwant\n%v", got, want)
	}
	return nil
}

// drop takes out what a reader does not know.
func drop(m *servicepb.Service) {
	encoded, err := proto.Marshal(m)
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(encoded, m)
	}
	if err != nil {
		panic(err)
	}
}
