package zone_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

var (
	ids  = []string{"m1", "m2", "m3", "M4"}
	keys = []clusterset.Key{key("shop/web"), key("shop/db"), key("ops/web"), key("dns/ns"), key("Odd/x")}
)

func randomCluster(r *rand.Rand) clusterset.Cluster {
	cluster := clusterset.Cluster{
		ID: pick(r, ids...), Network: pick(r, "", "flat", "flat", "other"), Region: pick(r, "", "eu", "US"), Zone: pick(r, "", "a", "b_"),
		State:        pick(r, clusterset.Active, clusterset.Active, clusterset.Cordoned, clusterset.Draining),
		ControlPlane: pick(r, clusterset.Up, clusterset.Down), DataPlane: pick(r, clusterset.Up, clusterset.Unknown, clusterset.Down),
	}
	for range r.IntN(3) {
		gateway := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(5))})
		cluster.Gateways = append(cluster.Gateways, clusterset.Gateway{Addr: gateway, Port: 15443, Health: pick(r, clusterset.Up, clusterset.Down)})
	}
	return cluster
}

func randomExport(r *rand.Rand) clusterset.Export {
	http, sql := clusterset.Port{Name: "http", Port: 80}, clusterset.Port{Name: "sql", Port: 5432}
	return clusterset.Export{Properties: &clusterset.Properties{
		Type: pick(r, "", "", "", corev1.ServiceTypeExternalName), Headless: r.IntN(2) == 0,
		Ports:      pick(r, []clusterset.Port{http}, []clusterset.Port{http, sql}, []clusterset.Port{{Port: 1}}, []clusterset.Port{{Name: "a_b", Port: 1}}, nil),
		IPFamilies: pick(r, nil, []corev1.IPFamily{"IPv6", "IPv4"}),
	}}
}

func randomEndpoints(r *rand.Rand, cluster string) clusterset.Endpoints {
	var all clusterset.Endpoints
	for range r.IntN(3) {
		group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern(pick(r, "http", "sql", "")), Port: pick[uint16](r, 8080, 0)}}}
		for range r.IntN(4) {
			at := netip.AddrFrom4([4]byte{10, cluster[1], 0, byte(r.IntN(6))})
			if r.IntN(4) == 0 {
				at = netip.AddrFrom16([16]byte{0xfd, 14: byte(r.IntN(2)), 15: cluster[1] * byte(r.IntN(2))})
			}
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: at, Hostname: clusterset.Intern(pick(r, "", "db-0", "db-1", "DB-0", "a_b")), Conditions: clusterset.Conditions(r.IntN(8)),
			})
		}
		all.Groups = append(all.Groups, group)
	}
	return all
}

func randomPolicy(r *rand.Rand) clusterset.Policy {
	policy := clusterset.Policy{TTL: pick[uint32](r, 0, 0, 30, 1<<32-1)}
	if r.IntN(3) == 0 {
		policy.Failover = []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{pick(r, ids...)}}, {By: clusterset.Any}}
	}
	for range r.IntN(3) {
		policy.Weights = append(policy.Weights, clusterset.ClusterWeight{Cluster: pick(r, ids...), Weight: r.Uint32N(3)})
	}
	if r.IntN(4) == 0 {
		policy.Consumers = &clusterset.Consumers{Clusters: []string{pick(r, ids...)}}
	}
	return policy
}

// happen makes one random change.
func happen(r *rand.Rand, b *clusterset.Builder) {
	id, service := pick(r, ids...), pick(r, keys...)
	switch r.IntN(16) {
	case 0, 1, 2:
		b.SetCluster(randomCluster(r))
	case 3, 4, 5:
		b.SetExport(id, service, randomExport(r))
	case 6:
		b.RemoveExport(id, service)
	case 7, 8, 9:
		b.SetEndpoints(id, service, randomEndpoints(r, id))
	case 10, 11:
		b.SetImport(id, service, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(r.IntN(3))}), pick(r, addr("fd00::1"), addr("::ffff:10.96.0.1"))}})
	case 12:
		b.RemoveImport(id, service)
	case 13:
		b.SetPolicy(service, randomPolicy(r))
	case 14:
		b.RemovePolicy(service)
	default:
		b.RemoveCluster(id)
	}
}

var everything = zone.Options{
	Nameservers: []zone.Nameserver{{Addrs: []netip.Addr{addr("10.96.0.10")}}, {Name: "ns1.example.org"}},
	External:    []zone.External{{Zone: "global.example.org"}},
	KubeFed:     []zone.KubeFed{{Zone: "old.example.org", Federation: "fed"}},
	PerCluster:  "per.clusterset.local",
}

// TestNextIsScratch makes 2,000 random changes. A tree that was changed again and again is the one that is made at once,
// apart from the serial number; every name in it is found, and so are those above, and nothing beside.
func TestNextIsScratch(t *testing.T) {
	askers := []zone.Asker{{Cluster: "m1"}, {Cluster: "m2", Zone: "a"}, {Region: "eu"}, {}}
	r := rand.New(rand.NewPCG(1, 2))
	b := clusterset.NewBuilder(1 << 60)
	trees := make([]*zone.Tree, len(askers))
	names := 0
	for step := range 2000 {
		happen(r, b)
		snapshot := b.PublishAs(clusterset.NextSequence(b.Current().Sequence(), time.Time{}))
		i := step % len(askers)
		options := everything
		if step/4%2 == 0 && i == 3 {
			options = zone.Options{}
		}
		next := zone.Next(trees[i], snapshot, askers[i], options)
		scratch := zone.Next(nil, snapshot, askers[i], options)
		if got, want := content(next), content(scratch); got != want {
			t.Fatalf("step %d, for %+v: changed:\n%s\nfrom scratch:\n%s", step, askers[i], got, want)
		}
		if next.Len() != len(owners(next)) {
			t.Fatalf("the tree has %d names and shows %d", next.Len(), len(owners(next)))
		}
		if step%20 == 0 {
			complete(t, next)
		}
		names += next.Len()
		if i != 3 {
			numbered(t, trees[i], next, scratch)
		}
		trees[i] = next
	}
	if names < 2000*20 {
		t.Errorf("the changes are dull: %d names", names)
	}
}

// numbered checks the serial numbers of zones: they rise when records change, and only then, and those of a server that has just
// started are not less.
func numbered(t *testing.T, before, next, scratch *zone.Tree) {
	t.Helper()
	old, fresh := map[string]*zone.Apex{}, map[string]*zone.Apex{}
	for apex := range scratch.Zones() {
		fresh[apex.Name()] = apex
	}
	if before != nil {
		for apex := range before.Zones() {
			old[apex.Name()] = apex
		}
	}
	for apex := range next.Zones() {
		name := apex.Name()
		if got := int32(fresh[name].Serial() - apex.Serial()); got < 0 {
			t.Fatalf("%s: the serial number is %d, and %d less after a restart", name, apex.Serial(), -got)
		}
		if old[name] == nil {
			continue
		}
		rise, same := int32(apex.Serial()-old[name].Serial()), before.Sum(old[name]) == next.Sum(apex)
		if rise < 0 || rise == 0 && !same {
			t.Fatalf("%s: the serial number went from %d to %d; the records are the same: %t", name, old[name].Serial(), apex.Serial(), same)
		}
	}
}

// content is a dump without serial numbers.
func content(tree *zone.Tree) string {
	var kept []string
	for line := range strings.Lines(dump(tree)) {
		if !strings.HasPrefix(line, "zone ") && !strings.Contains(line, " hostmaster.") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// complete checks that names exist exactly where something is at or below them, and that SRV records have targets.
func complete(t *testing.T, tree *zone.Tree) {
	t.Helper()
	exist := map[string]bool{}
	for _, owner := range owners(tree) {
		exist[owner] = true
	}
	for owner := range exist {
		match := tree.Find(wire(t, owner))
		if match.Node == nil || match.Node.Name() != owner {
			t.Fatalf("%s is not found: %+v", owner, match)
		}
		if _, above, _ := strings.Cut(owner, "."); owner != match.Apex.Name() && !exist[above] {
			t.Fatalf("%s exists, and %s above does not", owner, above)
		}
		if got := ask(t, tree, "0."+owner+" A"); got != "NXDOMAIN" {
			t.Fatalf("0.%s has the answer %s", owner, got)
		}
		if len(match.Node.RRsets()) == 0 && !justified(exist, owner) {
			t.Fatalf("%s exists without records and names below it", owner)
		}
		for _, set := range match.Node.RRsets() {
			if set.Type() == 33 && len(set.Additional()) != set.Len() {
				t.Fatalf("%s: %d SRV records and %d targets", owner, set.Len(), len(set.Additional()))
			}
		}
	}
}

// justified tells whether something is below a name, or it is that of a service, or of a server.
func justified(exist map[string]bool, owner string) bool {
	for other := range exist {
		if strings.HasSuffix(other, "."+owner) {
			return true
		}
	}
	for _, k := range keys {
		if strings.HasPrefix(owner, fmt.Sprintf("%s.%s.", k.Name, k.Namespace)) {
			return true
		}
	}
	return false
}

// TestSharing looks at what stays the same pointer.
func TestSharing(t *testing.T) {
	w := twoClusters()
	before := w.tree("m1", servers)
	w.pods("m2", "shop/db", "10.2.0.2=db-0", "10.2.0.10")
	after := zone.Next(before, w.Publish(), zone.Asker{Cluster: "m1"}, servers)
	for _, c := range []struct {
		reason, name string
		shared       bool
	}{
		{"nothing happened to this service", "web.shop.svc.clusterset.local", true},
		{"nor to this endpoint", "db-0.m1.db.shop.svc.clusterset.local", true},
		{"nor to this one", "db-0.m2.db.shop.svc.clusterset.local", true},
		{"the service lost one", "db.shop.svc.clusterset.local", false},
		{"the server stayed", "ns.dns.clusterset.local", true},
		{"the serial number rose", "clusterset.local", false},
	} {
		old, now := before.Find(wire(t, c.name)), after.Find(wire(t, c.name))
		if got := old.Node == now.Node; got != c.shared {
			t.Errorf("%s: %s is shared: %t", c.reason, c.name, got)
		}
	}
	if zone.Next(after, w.Publish(), zone.Asker{Cluster: "m1"}, servers) != after {
		t.Error("the same snapshot makes the same tree")
	}
	if got := zone.Next(after, w.Publish(), zone.Asker{Cluster: "m1"}, everything); serialOf(got) != serialOf(after)+1 {
		t.Errorf("other options make other names, and the serial number goes from %d to %d", serialOf(after), serialOf(got))
	}
	if got := ask(t, before, "10-2-0-9.m2.db.shop.svc.clusterset.local A"); got != "5 10.2.0.9" {
		t.Errorf("the tree before has become another: %s", got)
	}
}

// serialOf returns the serial number of the first zone.
func serialOf(tree *zone.Tree) uint32 {
	for apex := range tree.Zones() {
		return apex.Serial()
	}
	return 0
}

// TestSerialAfterNothing: a server that started without a snapshot has the serials of those that had one.
func TestSerialAfterNothing(t *testing.T) {
	const sequence = 1795301976678811477 // in the upper half of the circle of serials
	snapshot := clusterset.NewBuilder(sequence - 1)
	snapshot.SetCluster(clusterset.Cluster{ID: "m1"})
	now := snapshot.Publish()
	serial := func(old *zone.Tree) uint32 {
		for apex := range zone.Next(old, now, zone.Asker{}, zone.Options{}).Zones() {
			return apex.Serial()
		}
		t.Fatal("there is no zone")
		return 0
	}
	empty := zone.Next(nil, &clusterset.Snapshot{}, zone.Asker{}, zone.Options{})
	if got, want := serial(empty), serial(nil); got != want || want != sequence>>22&0xffffffff {
		t.Errorf("serial %d after nothing, %d from the start, want %d", got, want, uint32(sequence>>22&0xffffffff))
	}
}

// TestSerial follows serial numbers over changes, restarts and their wrap-around.
func TestSerial(t *testing.T) {
	const step = clusterset.Step
	const start = 1_790_000_000_000_000_000 / step * step // nanoseconds
	next := func(old *zone.Tree, sequence uint64) *zone.Tree {
		w := twoClusters()
		w.pods("m2", "shop/db", fmt.Sprintf("10.2.%d.%d", sequence/step%200, sequence%200))
		tree := zone.Next(old, w.PublishAs(sequence), zone.Asker{Cluster: "m1"}, everything)
		if got := ask(t, tree, "clusterset.local SOA"); !strings.Contains(got, fmt.Sprintf(" %d 60 ", serialOf(tree))) {
			t.Errorf("the SOA is %s, the serial %d", got, serialOf(tree))
		}
		return tree
	}
	tree := next(nil, start)
	if got := serialOf(tree); got != uint32(start/step%(1<<32)) {
		t.Errorf("the first serial is %d", got)
	}
	for _, c := range []struct {
		reason   string
		sequence uint64
	}{
		{"the next snapshot", start + step},
		{"some are missed", start + 7*step},
		{"a second later", start + 240*step},
		{"numbers that are no multiples, of who counts by one", start + 240*step + 1},
		{"and on", start + 240*step + 2},
		{"a day later", start + 86400*240*step},
		{"a clock that was put back", start + 100*step},
		{"over the end of 32 bits", (start/step/(1<<32) + 1) * step << 32},
	} {
		last := serialOf(tree)
		if tree = next(tree, c.sequence); int32(serialOf(tree)-last) <= 0 {
			t.Errorf("%s: %d is not after %d", c.reason, serialOf(tree), last)
		}
	}
}

// TestSerialsOfARestart compares servers of the same snapshots: one that followed them, and one that has just started.
func TestSerialsOfARestart(t *testing.T) {
	const start = 1_790_000_000_000_000_000 / clusterset.Step * clusterset.Step
	w := twoClusters()
	from := zone.Asker{Cluster: "m1"}
	serials := func(tree *zone.Tree) map[string]uint32 {
		all := map[string]uint32{}
		for apex := range tree.Zones() {
			all[apex.Name()] = apex.Serial()
		}
		return all
	}
	follower := zone.Next(nil, w.PublishAs(start), from, everything)
	first := serials(follower)
	for i := range uint64(1000) { // all within a second
		w.pods("m2", "shop/db", fmt.Sprintf("10.2.7.%d", i%200))
		follower = zone.Next(follower, w.PublishAs(start+(i+1)*clusterset.Step), from, everything)
	}
	snapshot := w.PublishAs(start + 2000*clusterset.Step)
	followed, started := serials(follower), serials(zone.Next(nil, snapshot, from, everything))
	if followed["clusterset.local."] != first["clusterset.local."]+1000 {
		t.Errorf("1000 snapshots later the serial is %d more", followed["clusterset.local."]-first["clusterset.local."])
	}
	if followed["global.example.org."] != first["global.example.org."] {
		t.Error("nothing changed in the external zone, and it has another serial")
	}
	for name, serial := range started {
		if int32(serial-followed[name]) < 0 {
			t.Errorf("%s: after a restart the serial is %d, and was %d", name, serial, followed[name])
		}
	}
}
