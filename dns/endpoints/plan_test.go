package endpoints_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/dns/endpoints"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const hub = "hansa-system"

var (
	web   = clusterset.Key{Namespace: "shop", Name: "web"}
	zones = []string{"global.example.org", "example.net"}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// inStep is a cluster that the hub is in step with.
func inStep(id, region string, gateways ...string) clusterset.Cluster {
	c := clusterset.Cluster{ID: id, Region: region, ControlPlane: clusterset.Up}
	for _, gateway := range gateways {
		c.Gateways = append(c.Gateways, clusterset.Gateway{Addr: addr(gateway), Port: 15443})
	}
	return c
}

func serve(b *clusterset.Builder, id string, key clusterset.Key) {
	b.SetExport(id, key, clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}}}})
	b.SetEndpoints(id, key, ready())
}

func ready() clusterset.Endpoints {
	return clusterset.Endpoints{Groups: []clusterset.Group{{
		Ports:     []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}},
		Endpoints: []clusterset.Endpoint{{Addr: addr("10.0.0.1"), Conditions: clusterset.Ready | clusterset.Serving}},
	}}}
}

// two is a world in which m1 and m2 serve web; m2 has two families.
func two() *clusterset.Builder {
	b := clusterset.NewBuilder(0)
	b.SetCluster(inStep("m1", "", "192.0.2.1"))
	b.SetCluster(inStep("m2", "", "192.0.2.2", "2001:db8::2"))
	serve(b, "m1", web)
	serve(b, "m2", web)
	return b
}

func worldOf(b *clusterset.Builder, complete bool, names ...string) *endpoints.World {
	o := zone.Options{}
	for _, name := range names {
		o.External = append(o.External, zone.External{Zone: name})
	}
	snapshot := b.Publish()
	return &endpoints.World{Snapshot: snapshot, Tree: zone.Next(nil, snapshot, zone.Asker{}, o), Zones: names, Complete: complete}
}

func TestFor(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		zones  []string
		change func(*clusterset.Builder)
		want   []string
	}{
		"all": {
			reason: "without a policy or regions all clusters are equal; types and addresses are in order, and names have no final dot",
			want: []string{
				"web.shop.global.example.org 5 A 192.0.2.1 192.0.2.2",
				"web.shop.global.example.org 5 AAAA 2001:db8::2",
			},
		},
		"zones": {
			reason: "one service has names in all zones, in their order",
			zones:  zones,
			change: func(b *clusterset.Builder) { b.RemoveExport("m2", web) },
			want:   []string{"web.shop.global.example.org 5 A 192.0.2.1", "web.shop.example.net 5 A 192.0.2.1"},
		},
		"ttl": {
			reason: "the policy of a service says its TTL",
			change: func(b *clusterset.Builder) {
				b.RemoveExport("m2", web)
				b.SetPolicy(web, clusterset.Policy{TTL: 60})
			},
			want: []string{"web.shop.global.example.org 60 A 192.0.2.1"},
		},
		"failover": {
			reason: "only the first priority is published",
			change: func(b *clusterset.Builder) {
				b.SetPolicy(web, clusterset.Policy{Failover: []clusterset.Tier{{By: clusterset.ByCluster, Names: []string{"m1"}}, {By: clusterset.Any}}})
			},
			want: []string{"web.shop.global.example.org 5 A 192.0.2.1"},
		},
		"weights": {
			reason: "weights cannot be published; addresses are in order all the same, so that a write is made only for news",
			change: func(b *clusterset.Builder) {
				b.RemoveExport("m1", web)
				b.SetCluster(inStep("m2", "", "192.0.2.20", "192.0.2.3"))
				b.SetPolicy(web, clusterset.Policy{Weights: []clusterset.ClusterWeight{{Cluster: "m2", Weight: 9}}})
			},
			want: []string{"web.shop.global.example.org 5 A 192.0.2.3 192.0.2.20"},
		},
		"consumers": {
			reason: "a service for some clusters is not for outsiders",
			change: func(b *clusterset.Builder) {
				b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{Clusters: []string{"m1"}}})
			},
		},
		"down": {
			reason: "a cluster without traffic is not published",
			change: func(b *clusterset.Builder) {
				down := inStep("m2", "", "192.0.2.2")
				down.DataPlane = clusterset.Down
				b.SetCluster(down)
			},
			want: []string{"web.shop.global.example.org 5 A 192.0.2.1"},
		},
		"unexported": {
			reason: "what nobody exports has no records",
			change: func(b *clusterset.Builder) {
				b.RemoveExport("m1", web)
				b.RemoveExport("m2", web)
			},
		},
		"long": {
			reason: "names that are longer than DNS allows are left out",
			zones:  []string{strings.Repeat(strings.Repeat("a", 61)+".", 4) + "org"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := two()
			if c.change != nil {
				c.change(b)
			}
			if c.zones == nil {
				c.zones = zones[:1]
			}
			var got []string
			for _, r := range endpoints.For(worldOf(b, true, c.zones...), web).Records {
				got = append(got, line(r.Name, r.TTL, r.Type, r.Targets))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
		})
	}
}

func line(name string, ttl int64, kind string, targets []string) string {
	return fmt.Sprintf("%s %d %s %s", name, ttl, kind, strings.Join(targets, " "))
}

// published is a DNSEndpoint of ours, with entries such as "web.shop.global.example.org 5 A 192.0.2.1".
func published(namespace string, lines ...string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "externaldns.k8s.io/v1alpha1", "kind": "DNSEndpoint"}}
	object.SetNamespace(namespace)
	object.SetName("web.shop")
	object.SetUID(types.UID(namespace))
	object.SetLabels(map[string]string{endpoints.Label: hub})
	list := []any{}
	for _, text := range lines {
		fields := strings.Fields(text)
		var ttl int64
		_, _ = fmt.Sscan(fields[1], &ttl)
		targets := []any{}
		for _, target := range fields[3:] {
			targets = append(targets, target)
		}
		list = append(list, map[string]any{"dnsName": fields[0], "recordTTL": ttl, "recordType": fields[2], "targets": targets})
	}
	object.Object["spec"] = map[string]any{"endpoints": list}
	return object
}

// linesOf renders the entries of a DNSEndpoint as published takes them.
func linesOf(object *unstructured.Unstructured) []string {
	var lines []string
	list, _, _ := unstructured.NestedSlice(object.Object, "spec", "endpoints")
	for _, each := range list {
		entry := each.(map[string]any)
		targets, _, _ := unstructured.NestedStringSlice(entry, "targets")
		lines = append(lines, line(entry["dnsName"].(string), entry["recordTTL"].(int64), entry["recordType"].(string), targets))
	}
	return lines
}

func steps(plan endpoints.Plan) []string {
	var all []string
	for _, step := range plan.Steps {
		text := string(step.Verb) + " " + step.Object.GetNamespace() + "/" + step.Object.GetName()
		if step.Verb != endpoints.Delete {
			text += ": " + strings.Join(linesOf(step.Object), ", ")
		}
		all = append(all, text)
	}
	return all
}

const (
	oldA    = "web.shop.global.example.org 7 A 192.0.2.2"
	nowA    = "web.shop.global.example.org 5 A 192.0.2.1"
	nowBoth = "web.shop.global.example.org 5 A 192.0.2.1 192.0.2.2"
)

func TestMake(t *testing.T) {
	gone := func(namespace string, lines ...string) *unstructured.Unstructured {
		object := published(namespace, lines...)
		object.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
		return object
	}
	// only m1 serves, unless the case changes that.
	for name, c := range map[string]struct {
		reason     string
		change     func(*clusterset.Builder)
		incomplete bool
		homeless   bool
		have       []*unstructured.Unstructured
		want       []string
		held       bool
	}{
		"new":         {reason: "nothing is there yet", want: []string{"create shop/web.shop: " + nowA}},
		"homeless":    {reason: "without the namespace of the service it is the hub's", homeless: true, want: []string{"create hansa-system/web.shop: " + nowA}},
		"settled":     {reason: "what is right is not written", have: []*unstructured.Unstructured{published("shop", nowA)}},
		"outdated":    {reason: "what differs is written", have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"update shop/web.shop: " + nowA}},
		"other ttl":   {reason: "so is another TTL", have: []*unstructured.Unstructured{published("shop", strings.Replace(nowA, " 5 ", " 6 ", 1))}, want: []string{"update shop/web.shop: " + nowA}},
		"other zone":  {reason: "names of a zone that is not published any more go", have: []*unstructured.Unstructured{published("shop", nowA, "web.shop.old.example.org 5 A 192.0.2.1")}, want: []string{"update shop/web.shop: " + nowA}},
		"broken":      {reason: "what is no entry goes", have: []*unstructured.Unstructured{published("shop", nowA, "web.shop.global.example.org 0 TXT x")}, want: []string{"update shop/web.shop: " + nowA}},
		"moves home":  {reason: "it is created at home before it goes elsewhere", have: []*unstructured.Unstructured{published(hub, nowA)}, want: []string{"create shop/web.shop: " + nowA, "delete hansa-system/web.shop"}},
		"moves away":  {reason: "the namespace is about to go", homeless: true, have: []*unstructured.Unstructured{gone("shop", nowA)}, want: []string{"create hansa-system/web.shop: " + nowA}},
		"moved":       {reason: "a move that was interrupted goes on", have: []*unstructured.Unstructured{published("shop", nowA), published(hub, nowA)}, want: []string{"delete hansa-system/web.shop"}},
		"about to go": {reason: "what is being deleted has to go first", have: []*unstructured.Unstructured{gone("shop", nowA), published(hub, nowA)}},
		"unexported": {
			reason: "nobody exports it any more", change: func(b *clusterset.Builder) { b.RemoveExport("m1", web) },
			have: []*unstructured.Unstructured{published("shop", nowA), gone(hub, nowA)}, want: []string{"delete shop/web.shop"},
		},
		"lost": {
			reason: "the hub is out of step with m2, which may export it still; the TTL is the service's",
			change: func(b *clusterset.Builder) { b.SetCluster(lost("m2")) },
			have:   []*unstructured.Unstructured{published("shop", oldA)}, want: []string{"update shop/web.shop: " + nowBoth}, held: true,
		},
		"lost, settled": {
			reason: "what is kept is not written again", change: func(b *clusterset.Builder) { b.SetCluster(lost("m2")) },
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, held: true,
		},
		"lost alone": {
			reason: "nothing but the lost one's is there: it stays as it is",
			change: func(b *clusterset.Builder) {
				b.RemoveExport("m1", web)
				b.SetCluster(lost("m2"))
			},
			have: []*unstructured.Unstructured{published("shop", oldA)}, held: true,
		},
		"lost, moving": {
			reason: "what is kept moves too", homeless: true,
			change: func(b *clusterset.Builder) {
				b.RemoveExport("m1", web)
				b.SetCluster(lost("m2"))
			},
			have: []*unstructured.Unstructured{published("shop", oldA)}, held: true,
			want: []string{"create hansa-system/web.shop: " + oldA, "delete shop/web.shop"},
		},
		"lost and down": {
			reason: "traffic is known not to arrive, whatever the API says",
			change: func(b *clusterset.Builder) {
				c := lost("m2")
				c.DataPlane = clusterset.Down
				b.SetCluster(c)
			},
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"update shop/web.shop: " + nowA},
		},
		"lost, gateway down": {
			reason: "so it is for one gateway",
			change: func(b *clusterset.Builder) {
				c := lost("m2")
				c.Gateways[0].Health = clusterset.Down
				b.SetCluster(c)
			},
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"update shop/web.shop: " + nowA},
		},
		"lost, known not to be wanted": {
			reason: "a policy that excludes outsiders does not depend on who serves",
			change: func(b *clusterset.Builder) {
				b.SetCluster(lost("m2"))
				b.SetPolicy(web, clusterset.Policy{Consumers: &clusterset.Consumers{}})
			},
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"delete shop/web.shop"},
		},
		"unread": {
			reason: "m2 exports it, and its endpoints were not read yet",
			change: func(b *clusterset.Builder) {
				serve(b, "m2", web)
				b.RemoveEndpoints("m2", web)
			},
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, held: true,
		},
		"read": {
			reason: "m2 exports it, and has no endpoints",
			change: func(b *clusterset.Builder) {
				serve(b, "m2", web)
				b.SetEndpoints("m2", web, clusterset.Endpoints{})
			},
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"update shop/web.shop: " + nowA},
		},
		"incomplete": {
			reason: "a member whose id is not known may have that gateway", incomplete: true,
			have: []*unstructured.Unstructured{published("shop", nowA, "web.shop.global.example.org 5 AAAA 2001:db8::9")}, held: true,
		},
		"incomplete, but known": {
			reason: "that gateway is of a cluster which is known not to export it", incomplete: true,
			have: []*unstructured.Unstructured{published("shop", nowBoth)}, want: []string{"update shop/web.shop: " + nowA},
		},
		"complete": {
			reason: "a cluster that is registered no more is gone",
			have:   []*unstructured.Unstructured{published("shop", nowA, "web.shop.global.example.org 5 AAAA 2001:db8::9")}, want: []string{"update shop/web.shop: " + nowA},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := two()
			b.RemoveExport("m2", web)
			b.RemoveEndpoints("m2", web)
			if c.change != nil {
				c.change(b)
			}
			wanted := endpoints.For(worldOf(b, !c.incomplete, zones[0]), web)
			plan := endpoints.Make(wanted, endpoints.Have{Hub: hub, Namespace: !c.homeless, Objects: c.have})
			if diff := cmp.Diff(c.want, steps(plan)); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
			if plan.Held != c.held {
				t.Errorf("%s: held is %t, want %t", c.reason, plan.Held, c.held)
			}
		})
	}
}

// lost is m2 with the hub out of step.
func lost(id string) clusterset.Cluster {
	c := inStep(id, "", "192.0.2.2", "2001:db8::2")
	c.ControlPlane, c.LastKnown = clusterset.Down, time.Unix(1000, 0)
	return c
}

// TestMakeKeepsWhatOthersSay: labels, annotations and fields of entries that are not ours.
func TestMakeKeepsWhatOthersSay(t *testing.T) {
	live := published("shop", strings.Replace(nowA, " 5 ", " 6 ", 1))
	live.SetAnnotations(map[string]string{"external-dns.alpha.kubernetes.io/controller": "dns-controller"})
	live.SetResourceVersion("7")
	live.Object["status"] = map[string]any{"observedGeneration": int64(3)}
	entry := live.Object["spec"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)
	entry["providerSpecific"] = []any{map[string]any{"name": "external-dns.alpha.kubernetes.io/cloudflare-proxied", "value": "true"}}
	before := live.DeepCopy()

	b := two()
	b.RemoveExport("m2", web)
	plan := endpoints.Make(endpoints.For(worldOf(b, true, zones[0]), web), endpoints.Have{Hub: hub, Namespace: true, Objects: []*unstructured.Unstructured{live}})
	if len(plan.Steps) != 1 {
		t.Fatalf("steps: %v", steps(plan))
	}
	want := before.DeepCopy()
	want.Object["spec"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)["recordTTL"] = int64(5)
	if diff := cmp.Diff(want.Object, plan.Steps[0].Object.Object); diff != "" {
		t.Errorf("more than the TTL differs:\n%s", diff)
	}
	if diff := cmp.Diff(before.Object, live.Object); diff != "" {
		t.Errorf("the live object was modified:\n%s", diff)
	}
}

func TestKeyOf(t *testing.T) {
	for text, want := range map[string]string{
		"shop/web.shop":         "shop/web",
		"hansa-system/web.shop": "shop/web",
		"other/web.shop":        "", // a copy that somebody made
		"shop/web":              "",
		"shop/.shop":            "",
		"shop/a.b.shop":         "",
		"hansa-system/web.":     "",
	} {
		namespace, name, _ := strings.Cut(text, "/")
		got, ok := endpoints.KeyOf(types.NamespacedName{Namespace: namespace, Name: name}, hub)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("KeyOf(%s) = %s, %t; want %q", text, got, ok, want)
		}
	}
}
