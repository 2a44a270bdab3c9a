package zone_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/zone"
)

// many is a world of n services, of which one in ten is headless.
func many(n int) world {
	w := newWorld()
	for _, id := range []string{"m1", "m2", "m3"} {
		w.cluster(id, "flat", "eu", "192.0.2.1")
	}
	for i := range n {
		name := fmt.Sprintf("ns-%d/service-%d", i%20, i)
		for c, id := range []string{"m1", "m2", "m3"} {
			pods := make([]string, 0, 3)
			for p := range 3 {
				pods = append(pods, fmt.Sprintf("10.%d%d.%d.%d", c+1, p, i/250, i%250))
			}
			if i%10 == 9 {
				w.headless(id, name, pods...)
				continue
			}
			w.addressed(id, name, pods...)
			w.derived(id, name, netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String())
		}
	}
	return w
}

var questions = []string{
	"service-17.ns-17.svc.clusterset.local.",
	"_http._tcp.service-17.ns-17.svc.clusterset.local.",
	"10-10-0-19.m1.service-19.ns-19.svc.clusterset.local.",
	"svc.clusterset.local.",
	"clusterset.local.",
	"missing.ns-17.svc.clusterset.local.",
	"a.b.c.d.e.f.g.missing.ns-17.svc.clusterset.local.",
	"www.example.org.",
	".",
}

// TestFindDoesNotAllocate holds for every kind of answer, and what servers do with it.
func TestFindDoesNotAllocate(t *testing.T) {
	trees := []*zone.Tree{many(100).tree("m1", everything), static(t, wild, other)}
	asked := append([]string{"x.any.other.example.", "a.child.other.example.", "host3.example.", "a.old.other.example."}, questions...)
	for _, name := range asked {
		question := wire(t, name)
		for _, tree := range trees {
			n := testing.AllocsPerRun(100, func() {
				match := tree.Find(question)
				if match.Node == nil {
					return
				}
				for _, rrtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeNS} {
					if set := match.Node.RRset(rrtype); set != nil {
						_, _ = set.Packed()
						_, _, _, _ = set.Additional(), set.Draw(7), set.Len(), set.TTL()
					}
				}
			})
			if n > 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	}
}

// TestPacked compares packed records with what the DNS library makes of them.
func TestPacked(t *testing.T) {
	for _, tree := range []*zone.Tree{many(30).tree("m1", everything), static(t, wild, other)} {
		for apex := range tree.Zones() {
			tree.Walk(apex, func(owner string, node *zone.Node) bool {
				for _, set := range node.RRsets() {
					checkPacked(t, owner, set)
				}
				return true
			})
		}
	}
}

func checkPacked(t *testing.T, owner string, set *zone.RRset) {
	t.Helper()
	records, size := set.Packed()
	want, number := []byte{}, 0
	for _, rr := range set.RRs(owner) {
		buffer := make([]byte, 1024)
		rr.Header().Name = "."
		end, err := dns.PackRR(rr, buffer, 0, nil, false)
		if err != nil {
			t.Fatalf("%s: %v", owner, err)
		}
		want = append(append(want, 0xC0, 0x0C), buffer[1:end]...)
		number++
	}
	if !bytes.Equal(records, want) || number != set.Len() {
		t.Fatalf("%s %d: packed as\n%x, want\n%x", owner, set.Type(), records, want)
	}
	if fixed := set.Type() == dns.TypeA || set.Type() == dns.TypeAAAA; fixed != (size > 0) || fixed && size*number != len(records) {
		t.Fatalf("%s %d: a size of %d for %d records in %d octets", owner, set.Type(), size, number, len(records))
	}
	if binary.BigEndian.Uint32(records[6:]) != set.TTL() {
		t.Fatalf("%s: the TTL is not %d", owner, set.TTL())
	}
}

// FuzzFind looks up any bytes. What is found has the name that was asked for.
func FuzzFind(f *testing.F) {
	trees := []*zone.Tree{many(20).tree("m1", everything), twoClusters().tree("m1", zone.Options{}), {}}
	file, err := zone.Static(zone.File{Reader: strings.NewReader(wild)}, zone.File{Reader: strings.NewReader(other)})
	if err != nil {
		f.Fatal(err)
	}
	trees = append(trees, file)
	for _, name := range questions {
		question := wire(f, name)
		f.Add(question)
		f.Add(question[:len(question)-1])
		f.Add(append(question, 0))
		f.Add(append([]byte{63}, question...))
		f.Add(append([]byte{0xC0}, question...))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1, 'a'}, 127))
	f.Add(append(bytes.Repeat([]byte{1, 'a'}, 120), wire(f, "example.")...))
	f.Fuzz(func(t *testing.T, name []byte) {
		for _, tree := range trees {
			match := tree.Find(name)
			if (match.Kind == zone.Exists || match.Kind == zone.Alias && match.Node.Len() == len(name)) && !bytes.Equal(wire(t, match.Node.Name()), name) {
				t.Fatalf("%x: found %s", name, match.Node.Name())
			}
			if match.Kind != zone.Outside && !bytes.HasSuffix(name, match.Apex.Wire()) {
				t.Fatalf("%x: in the zone %s", name, match.Apex.Name())
			}
			_ = tree.Explain(zone.Presentation(name), dns.TypeA)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	tree := many(1000).tree("m1", zone.Options{})
	for _, name := range questions[:7] {
		question := wire(b, name)
		b.Run(strings.TrimSuffix(name, ".clusterset.local."), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tree.Find(question)
			}
		})
	}
}

// BenchmarkNext is one change among services: of an endpoint of a headless one, and of an address.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for _, what := range []string{"headless", "address", "nothing of ours"} {
			b.Run(fmt.Sprintf("services=%d/%s", n, what), func(b *testing.B) { benchmarkNext(b, n, what) })
		}
	}
}

func benchmarkNext(b *testing.B, n int, what string) {
	b.Helper()
	w := many(n)
	from := zone.Asker{Cluster: "m1"}
	tree := zone.Next(nil, w.Publish(), from, zone.Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		switch what {
		case "headless":
			w.pods("m2", "ns-9/service-9", "10.2.0.1", fmt.Sprintf("10.2.1.%d", i%250))
		case "address":
			w.derived("m1", "ns-7/service-7", fmt.Sprintf("10.97.0.%d", i%250))
		default:
			w.derived("m2", "ns-7/service-7", fmt.Sprintf("10.97.0.%d", i%250))
		}
		snapshot := w.Publish()
		b.StartTimer()
		tree = zone.Next(tree, snapshot, from, zone.Options{})
	}
}

// BenchmarkScratch makes the whole tree of 1,000 services, and tells how much memory each takes.
func BenchmarkScratch(b *testing.B) {
	for _, kind := range []string{"addressed", "headless"} {
		b.Run(kind, func(b *testing.B) {
			w := newWorld()
			for i := range 1000 {
				service := fmt.Sprintf("ns-%d/service-%d", i%20, i)
				if kind == "headless" {
					w.headless("m1", service, fmt.Sprintf("10.0.%d.1", i%250), fmt.Sprintf("10.0.%d.2", i%250), fmt.Sprintf("10.0.%d.3", i%250))
					continue
				}
				w.addressed("m1", service)
				w.derived("m1", service, fmt.Sprintf("10.96.%d.%d", i/250, i%250))
			}
			snapshot := w.Publish()
			var tree *zone.Tree
			before := heap()
			for b.Loop() {
				tree = zone.Next(nil, snapshot, zone.Asker{Cluster: "m1"}, zone.Options{})
			}
			b.ReportMetric(float64(heap()-before)/1000, "B/service")
			b.ReportMetric(float64(tree.Len())/1000, "names/service")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
