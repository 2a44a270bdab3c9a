package clients_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

const (
	services = 20
	patience = 10 * time.Second
)

// source fills one view for everybody.
type source struct {
	encoder ads.Encoder
	changes chan []ads.Resource
	t       *testing.T
}

func (s *source) Admit(context.Context, ads.Client) (ads.Admission, error) {
	return ads.Admission{View: "all"}, nil
}

func (s *source) Fill(ctx context.Context, v *ads.View) error {
	first := ads.Update{Sequence: 1, Whole: true}
	for n := range services {
		first.Changed = append(first.Changed, s.cluster(n), s.assignment(n, "10.0.0.1"))
	}
	// A cluster whose endpoints do not come by EDS is none to ask for.
	first.Changed = append(first.Changed, s.encode("local", &clusterv3.Cluster{
		Name: "local", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
	}))
	v.Apply(first)
	for sequence := uint64(2); ; sequence++ {
		select {
		case changed := <-s.changes:
			v.Apply(ads.Update{Sequence: sequence, Changed: changed})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *source) encode(name string, m proto.Message) ads.Resource {
	r, err := s.encoder.Encode(name, m)
	if err != nil {
		s.t.Error(err)
	}
	return r
}

func name(number int) string { return "outbound|80||" + host(number) }

func host(number int) string { return fmt.Sprintf("s%02d.ns.svc.clusterset.local", number) }

func (s *source) cluster(number int) ads.Resource {
	return s.encode(name(number), &clusterv3.Cluster{
		Name: name(number), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
	})
}

func (s *source) assignment(number int, address string) ads.Resource {
	return s.encode(name(number), &endpointv3.ClusterLoadAssignment{
		ClusterName: name(number), Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
				Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: address}},
			}}},
		}}}},
	})
}

// serve starts a server and returns its source and address.
func serve(t *testing.T) (*source, string) {
	t.Helper()
	s := &source{changes: make(chan []ads.Resource), t: t}
	server := ads.New(ads.Config{Source: s, Log: logr.Discard()})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, listener.Addr().String()
}

func connect(t *testing.T, address string) *clients.Swarm {
	t.Helper()
	swarm, err := clients.Connect(t.Context(), []clients.Group{
		{Address: address, Protocol: clients.SotW, Count: 3, Services: services},
		{Address: address, Protocol: clients.Delta, Count: 2, Services: services},
	}, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(swarm.Close)
	return swarm
}

func TestClientsSeeChanges(t *testing.T) {
	source, address := serve(t)
	swarm := connect(t, address)
	for i, took := range swarm.Sync() {
		if took <= 0 {
			t.Errorf("client %d was in step after %d ns, want more than nothing", i, took)
		}
	}
	began := time.Now().UnixNano()
	swarm.Expect([]clients.Change{
		{Host: host(3), Address: "10.100.100.103"},
		{Host: host(4), Address: "10.100.100.104"},
		{Host: host(5), First: 3, Count: 2}, // whatever comes, of the clients of the second group
	})
	// The first message brings one of the changes, and news of a service that nobody looks at.
	source.changes <- []ads.Resource{source.assignment(4, "10.100.100.104"), source.assignment(6, "10.100.100.103")}
	source.changes <- []ads.Resource{source.assignment(3, "10.100.100.103"), source.assignment(5, "10.0.0.2")}
	arrivals, err := swarm.Await(t.Context(), patience)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{5, 5, 2} {
		if len(arrivals[i]) != want {
			t.Fatalf("change %d arrived at %d clients, want %d", i, len(arrivals[i]), want)
		}
		for k, at := range arrivals[i] {
			if at < began || at > time.Now().UnixNano() {
				t.Errorf("change %d arrived at client %d at %d, which is not now", i, k, at)
			}
		}
	}
}

func TestAwaitTellsWhatIsMissing(t *testing.T) {
	_, address := serve(t)
	swarm := connect(t, address)
	swarm.Expect([]clients.Change{{Host: host(3), Address: "10.100.100.103"}})
	if _, err := swarm.Await(t.Context(), time.Millisecond); err == nil || !strings.Contains(err.Error(), "5 arrivals") {
		t.Errorf("Await = %v, want an error that tells of 5 missing arrivals", err)
	}
}

func TestConnectTellsWhyNot(t *testing.T) {
	_, address := serve(t)
	_, err := clients.Connect(t.Context(), []clients.Group{{Address: address, Protocol: clients.Delta, Count: 1, Services: services + 1}}, 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "0 of 1 clients") {
		t.Errorf("Connect = %v, want an error: there are fewer services than the client has to get", err)
	}
	_, err = clients.Connect(t.Context(), []clients.Group{{Address: address, Protocol: clients.SotW, Count: 1, Dir: t.TempDir()}}, patience)
	if err == nil || !strings.Contains(err.Error(), "tls.crt") {
		t.Errorf("Connect = %v, want an error that names the missing certificate", err)
	}
}
