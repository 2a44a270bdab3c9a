package hello_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

func TestTarget(t *testing.T) {
	web := types.NamespacedName{Namespace: "shop", Name: "web"}
	for name, test := range map[string]struct {
		reason string
		names  hello.Names
		name   string
		want   hello.Target // zero: not a service
	}{
		"Plain":         {"an ordinary client's name", hello.Names{}, "web.shop.svc.clusterset.local", hello.Target{Key: web}},
		"Case":          {"case does not matter in DNS", hello.Names{}, "Web.SHOP.svc.ClusterSet.local", hello.Target{Key: web}},
		"Istio":         {"no subset", hello.Names{}, "outbound_.443_._.web.shop.svc.clusterset.local", hello.Target{Key: web, Port: 443}},
		"Subset":        {"a subset is kept", hello.Names{}, "outbound_.8443_.v2_.web.shop.svc.clusterset.local", hello.Target{Key: web, Port: 8443, Subset: "v2"}},
		"Domain":        {"a domain of one's own", hello.Names{Domains: []string{"a.example", "cluster.local"}}, "web.shop.svc.cluster.local", hello.Target{Key: web}},
		"OtherDomain":   {"only the domains given", hello.Names{Domains: []string{"a.example"}}, "web.shop.svc.clusterset.local", hello.Target{}},
		"NoDomain":      {"relative names mean nothing here", hello.Names{}, "web.shop", hello.Target{}},
		"DomainOnly":    {"there is no service in it", hello.Names{}, "svc.clusterset.local", hello.Target{}},
		"Prefix":        {"the domain begins at a dot", hello.Names{}, "web.shop.svc.xclusterset.local", hello.Target{}},
		"NoNamespace":   {"a service is in a namespace", hello.Names{}, "web.svc.clusterset.local", hello.Target{}},
		"Host":          {"names of single pods are not routed", hello.Names{}, "pod-0.c1.web.shop.svc.clusterset.local", hello.Target{}},
		"Dot":           {"RFC 6066, 3: no final dot", hello.Names{}, "web.shop.svc.clusterset.local.", hello.Target{}},
		"Port0":         {"no such port", hello.Names{}, "outbound_.0_._.web.shop.svc.clusterset.local", hello.Target{}},
		"PortTooLarge":  {"no such port", hello.Names{}, "outbound_.65536_._.web.shop.svc.clusterset.local", hello.Target{}},
		"PortSpelling":  {"one spelling per name", hello.Names{}, "outbound_.0443_._.web.shop.svc.clusterset.local", hello.Target{}},
		"PortName":      {"ports are numbers", hello.Names{}, "outbound_.https_._.web.shop.svc.clusterset.local", hello.Target{}},
		"NoPort":        {"nothing between", hello.Names{}, "outbound_._._.web.shop.svc.clusterset.local", hello.Target{}},
		"NoSubsetField": {"a field is missing", hello.Names{}, "outbound_.443_.web.shop.svc.clusterset.local", hello.Target{}},
		"Inbound":       {"another direction", hello.Names{}, "inbound_.443_._.web.shop.svc.clusterset.local", hello.Target{}},
		"Underscore":    {"no service is called so", hello.Names{}, "w_b.shop.svc.clusterset.local", hello.Target{}},
		"Zero":          {"nor so", hello.Names{}, "web\x00.shop.svc.clusterset.local", hello.Target{}},
		"LongLabel":     {"a label has 63 octets at most", hello.Names{}, strings.Repeat("x", 64) + ".shop.svc.clusterset.local", hello.Target{}},
		"Hyphen":        {"labels do not end so", hello.Names{}, "web-.shop.svc.clusterset.local", hello.Target{}},
		"Empty":         {"nothing", hello.Names{}, "", hello.Target{}},
		"TooLong":       {"longer than any name", hello.Names{}, strings.Repeat("x.", 150) + "svc.clusterset.local", hello.Target{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.names.Target([]byte(test.name))
			if (err != nil) != (test.want == hello.Target{}) {
				t.Errorf("%s: error %v", test.reason, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
}

// FuzzTarget holds that what a name means is spelled in it.
func FuzzTarget(f *testing.F) {
	f.Add([]byte("web.shop.svc.clusterset.local"))
	f.Add([]byte("outbound_.443_.v2_.web.shop.svc.clusterset.local"))
	f.Add([]byte("outbound_.443_._.web.shop.svc.clusterset.local"))
	f.Fuzz(func(t *testing.T, name []byte) {
		got, err := hello.Names{}.Target(name)
		if err != nil {
			return
		}
		plain := got.Key.Name + "." + got.Key.Namespace + ".svc." + hello.DefaultDomain
		if lower := strings.ToLower(string(name)); lower != plain && !strings.HasSuffix(lower, "_."+plain) {
			t.Errorf("%q means %+v", name, got)
		}
	})
}
