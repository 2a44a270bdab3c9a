package wire_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/clusterset/wire"
)

// some makes up what may be known of a cluster with so many services.
func some(random *rand.Rand, services int) clusterset.Known {
	known := clusterset.Known{
		Exports: map[clusterset.Key]clusterset.Export{}, Endpoints: map[clusterset.Key]clusterset.Endpoints{}, Imports: map[clusterset.Key]clusterset.Import{},
	}
	for i := range services {
		key := clusterset.Key{Namespace: fmt.Sprintf("ns-%d", random.IntN(5)), Name: fmt.Sprintf("service-%d", i)}
		export := clusterset.Export{Created: time.Unix(random.Int64N(1e9), random.Int64N(1e9)).UTC()}
		if random.IntN(8) > 0 {
			export.Properties = &clusterset.Properties{
				Type: corev1.ServiceTypeClusterIP, Headless: random.IntN(2) == 0, AffinityTimeout: random.Int32(),
				Ports:      []clusterset.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: random.Int32N(65536), AppProtocol: "h2c"}},
				IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}, Labels: map[string]string{"a": "b", "c": ""},
			}
		}
		known.Exports[key] = export
		var group clusterset.Group
		group.Ports = []clusterset.TargetPort{{Name: clusterset.Intern("http"), Protocol: corev1.ProtocolTCP, Port: uint16(random.IntN(65536))}}
		for j := range random.IntN(12) {
			addr := netip.AddrFrom4([4]byte{10, byte(random.IntN(256)), byte(i), byte(j)})
			if random.IntN(4) == 0 {
				addr = netip.AddrFrom16([16]byte{0xfd, 15: byte(j)})
			}
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: addr, Node: clusterset.Intern(fmt.Sprintf("node-%d", random.IntN(20))), Zone: clusterset.Intern("z1"),
				Conditions: clusterset.Conditions(random.IntN(8)),
			})
		}
		known.Endpoints[key] = clusterset.Endpoints{Groups: []clusterset.Group{group}}
		if random.IntN(3) == 0 {
			known.Imports[key] = clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})}}
		}
		if random.IntN(3) == 0 {
			known.Imports[key] = clusterset.Import{GatewayPorts: []clusterset.GatewayPort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: uint16(20000 + i)}, {Protocol: corev1.ProtocolUDP, Port: 20000},
			}}
		}
	}
	return known
}

func TestRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, services := range []int{0, 1, 7, 500} {
		known := some(random, services)
		for _, shards := range []int{1, 2, 16} {
			var whole clusterset.Known
			for _, part := range wire.Split(known, shards) {
				data, err := wire.Encode(part)
				if err != nil {
					t.Fatal(err)
				}
				if again, _ := wire.Encode(part); string(again) != string(data) {
					t.Error("the same content gives other bytes")
				}
				read, err := wire.Decode(data)
				if err != nil {
					t.Fatal(err)
				}
				whole = wire.Merge(whole, read)
			}
			if !reflect.DeepEqual(whole, known) {
				t.Errorf("%d services in %d shards are not what they were", services, shards)
			}
		}
	}
}

func TestOneChangeRewritesOneShard(t *testing.T) {
	known := some(rand.New(rand.NewPCG(3, 4)), 400)
	shards := 8
	before := encodeAll(t, known, shards)
	for key := range known.Endpoints {
		known.Endpoints[key] = clusterset.Endpoints{}
		after := encodeAll(t, known, shards)
		for i := range after {
			if changed := after[i] != before[i]; changed != (i == wire.ShardOf(key, shards)) {
				t.Fatalf("a change of %s changes shard %d: %t", key, i, changed)
			}
		}
		return
	}
}

func encodeAll(t *testing.T, known clusterset.Known, shards int) []string {
	t.Helper()
	var all []string
	for _, part := range wire.Split(known, shards) {
		data, err := wire.Encode(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return all
}

func TestShards(t *testing.T) {
	few, many := some(rand.New(rand.NewPCG(5, 6)), 10), some(rand.New(rand.NewPCG(5, 6)), 2000)
	if n := wire.Shards(few, 0); n != 1 {
		t.Errorf("10 services are in %d shards, want 1", n)
	}
	n := wire.Shards(many, 0)
	if n < 4 || n&(n-1) != 0 {
		t.Errorf("2000 services are in %d shards, want a power of two above 2", n)
	}
	if got := wire.Shards(many, 2*n); got != 2*n {
		t.Errorf("shards that are a little too small are merged: %d, want %d", got, 2*n)
	}
	if got := wire.Shards(few, 64); got != 1 {
		t.Errorf("shards that are nearly empty stay: %d, want 1", got)
	}
}

func TestTooLarge(t *testing.T) {
	known := some(rand.New(rand.NewPCG(7, 8)), 1)
	group := clusterset.Group{}
	random := rand.New(rand.NewPCG(9, 10))
	for range 200_000 {
		var b [16]byte
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		group.Endpoints = append(group.Endpoints, clusterset.Endpoint{Addr: netip.AddrFrom16(b)})
	}
	known.Endpoints[clusterset.Key{Namespace: "shop", Name: "huge"}] = clusterset.Endpoints{Groups: []clusterset.Group{group}}
	if _, err := wire.Encode(known); err == nil || !strings.Contains(err.Error(), "shop/huge with 200000 endpoints") {
		t.Errorf("the error is %v, want one that names the service", err)
	}
}

// TestFirstVersion: what was kept before there were ports of gateways is still read.
func TestFirstVersion(t *testing.T) {
	content := []byte{2, 4, 's', 'h', 'o', 'p', 3, 'w', 'e', 'b', 0, 0, 1, 0, 1, 1, 4, 10, 96, 0, 7}
	known, err := wire.DecodeContent(content, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := known.Imports[clusterset.Key{Namespace: "shop", Name: "web"}]
	if want := (clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")}}); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if _, err := wire.DecodeContent(content, 2); err == nil {
		t.Error("the second version needs ports, and there are none")
	}
	shard, err := wire.Encode(clusterset.Known{})
	if err != nil {
		t.Fatal(err)
	}
	shard[3] = 1
	if _, err := wire.Decode(shard); err != nil {
		t.Errorf("a shard of the first version is not read: %v", err)
	}
}

func TestCorrupt(t *testing.T) {
	data, err := wire.Encode(some(rand.New(rand.NewPCG(11, 12)), 20))
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, value byte) []byte {
		changed := append([]byte(nil), data...)
		changed[at] = value
		return changed
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "does not begin with"},
		"foreign":       {[]byte("{\"kind\": \"List\"}"), "does not begin with"},
		"newer version": {with(3, 9), "version 9"},
		"no version":    {with(3, 0), "version 0"},
		"one bit":       {with(len(data)/2, data[len(data)/2]^1), "checksum"},
		"cut short":     {data[:len(data)-3], "checksum"},
	} {
		if _, err := wire.Decode(c.data); !errors.Is(err, wire.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: the error is %v, want %q", name, err, c.want)
		}
	}
}

// FuzzDecode looks for input that panics, or that is read as something which is then written differently.
func FuzzDecode(f *testing.F) {
	for i := range uint64(3) {
		data, err := wire.Encode(some(rand.New(rand.NewPCG(i, i)), int(i)*3))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, wire.Content(data), byte(2))
		f.Add(data, wire.Content(data), byte(1))
	}
	f.Fuzz(func(t *testing.T, data, content []byte, version byte) {
		_, _ = wire.Decode(data)
		known, err := wire.DecodeContent(content, version)
		if err != nil {
			return
		}
		packed, err := wire.Encode(known)
		if err != nil {
			return // too large
		}
		again, err := wire.Decode(packed)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !reflect.DeepEqual(known, again) {
			t.Fatal("what was read is another thing when it is read again")
		}
	})
}
