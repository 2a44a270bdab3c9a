package translate_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestEncodedAssignments compares what is encoded by hand with the message that it stands for.
func TestEncodedAssignments(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		from := randomAssignment(r)
		var clusters []string
		if i%3 == 0 {
			clusters = []string{"c1", "c2"}
		}
		name := fmt.Sprintf("outbound|%d||a.b.svc.clusterset.local", i)
		want := translate.Assignment(name, from, clusters)
		got := &endpointv3.ClusterLoadAssignment{}
		if err := proto.Unmarshal(translate.AppendAssignment(nil, name, from, clusters), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("%+v: -message +decoded:\n%s", from, diff)
		}
	}
}

func randomAssignment(r *rand.Rand) clusterset.Assignment {
	var made clusterset.Assignment
	for range r.IntN(4) {
		var p clusterset.Priority
		for range r.IntN(4) {
			l := clusterset.Locality{
				Cluster: fmt.Sprintf("c%d", r.IntN(4)), Region: []string{"", "north"}[r.IntN(2)], Zone: []string{"", "north-a"}[r.IntN(2)],
				Gateway: r.IntN(2) == 0, Weight: []uint32{0, 1, 200, 1 << 31}[r.IntN(4)],
			}
			for range r.IntN(5) {
				l.Targets = append(l.Targets, clusterset.Target{
					Addr: netip.AddrPortFrom(randomAddress(r), uint16(r.IntN(1<<16))), Weight: []uint32{0, 1, 2, 300}[r.IntN(4)],
				})
			}
			p.Localities = append(p.Localities, l)
		}
		made.Priorities = append(made.Priorities, p)
	}
	return made
}

func randomAddress(r *rand.Rand) netip.Addr {
	switch r.IntN(4) {
	case 0:
		return netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	case 1:
		return netip.MustParseAddr("::ffff:10.200.200.200")
	default:
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
	}
}

func BenchmarkAssignment(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var from clusterset.Assignment
	for p := range 3 {
		l := clusterset.Locality{Cluster: fmt.Sprintf("c%d", p), Region: "north", Zone: "north-a", Weight: 9}
		for range 9 {
			l.Targets = append(l.Targets, clusterset.Target{Addr: netip.AddrPortFrom(randomAddress(r), 8080), Weight: 1})
		}
		from.Priorities = append(from.Priorities, clusterset.Priority{Localities: []clusterset.Locality{l}})
	}
	b.Run("messages", func(b *testing.B) {
		for b.Loop() {
			if _, err := (proto.MarshalOptions{Deterministic: true}).Marshal(translate.Assignment("outbound|80||a.b.svc.clusterset.local", from, nil)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by-hand", func(b *testing.B) {
		for b.Loop() {
			_ = translate.AppendAssignment(nil, "outbound|80||a.b.svc.clusterset.local", from, nil)
		}
	})
}
