package clusterset_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

type (
	exports    = map[string]clusterset.Export
	properties = clusterset.Properties
	port       = clusterset.Port
)

var (
	web   = clusterset.Key{Namespace: "shop", Name: "web"}
	epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	http  = port{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}
	https = port{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443}
)

// export makes an export that is age seconds younger than the epoch, of a Service with the port http that change adapts.
func export(age int, change ...func(*properties)) clusterset.Export {
	p := properties{Ports: []port{http}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}
	for _, f := range change {
		f(&p)
	}
	return clusterset.Export{Created: epoch.Add(time.Duration(age) * time.Second), Properties: &p}
}

func ports(list ...port) func(*properties) { return func(p *properties) { p.Ports = list } }
func headless(p *properties)               { p.Headless = true }
func externalName(p *properties)           { p.Type = corev1.ServiceTypeExternalName }
func loadBalancer(p *properties)           { p.Type = corev1.ServiceTypeLoadBalancer }
func local(p *properties)                  { p.InternalTrafficPolicy = corev1.ServiceInternalTrafficPolicyLocal }
func preferClose(p *properties)            { p.TrafficDistribution = "PreferClose" }

func sticky(timeout int32) func(*properties) {
	return func(p *properties) { p.SessionAffinity, p.AffinityTimeout = corev1.ServiceAffinityClientIP, timeout }
}

func label(value string) func(*properties) {
	return func(p *properties) { p.Labels = map[string]string{"team": value} }
}

func annotate(value string) func(*properties) {
	return func(p *properties) { p.Annotations = map[string]string{"owner": value} }
}

func families(list ...corev1.IPFamily) func(*properties) {
	return func(p *properties) { p.IPFamilies = list }
}

func publish(all exports) *clusterset.Snapshot {
	b := clusterset.NewBuilder(0)
	for cluster, e := range all {
		b.SetExport(cluster, web, e)
		b.SetEndpoints(cluster, web, clusterset.Endpoints{})
	}
	return b.Publish()
}

func TestConflicts(t *testing.T) {
	tests := map[string]struct {
		reason  string
		exports exports
		reasons string // of the condition Conflict; empty: none
		message string // a part of the conflicts' messages
		check   func(*properties) any
		want    any
	}{
		"alone":          {reason: "one export cannot conflict", exports: exports{"m1": export(0)}, check: func(p *properties) any { return p.Ports }, want: []port{http}},
		"equal":          {reason: "equal exports agree, whatever their age", exports: exports{"m1": export(0), "m2": export(9)}, check: func(p *properties) any { return p.Ports }, want: []port{http}},
		"defaults":       {reason: "a default that is written out is no difference", exports: exports{"m1": export(0), "m2": export(1, func(p *properties) { p.SessionAffinity = corev1.ServiceAffinityNone })}},
		"service types":  {reason: "how a cluster offers a service to its outside does not matter", exports: exports{"m1": export(0), "m2": export(1, loadBalancer)}},
		"type":           {reason: "headless or not follows the oldest", exports: exports{"m1": export(5), "m2": export(0, headless)}, reasons: "TypeConflict", message: "type: Headless in m2 counts (m2 has the oldest export), but ClusterSetIP in m1", check: func(p *properties) any { return p.Headless }, want: true},
		"same age":       {reason: "of two exports of the same second the first cluster's counts", exports: exports{"m1": export(0), "m2": export(0, headless)}, reasons: "TypeConflict", message: "m1 has the oldest export", check: func(p *properties) any { return p.Headless }, want: false},
		"no time":        {reason: "an export without a time is the youngest", exports: exports{"m1": {Properties: &properties{Headless: true, Ports: []port{http}, IPFamilies: []corev1.IPFamily{"IPv4"}}}, "m2": export(9)}, reasons: "TypeConflict", message: "m2 has the oldest export", check: func(p *properties) any { return p.Headless }, want: false},
		"port union":     {reason: "the service gets all ports; sets that differ are told", exports: exports{"m1": export(1, ports(http)), "m2": export(0, ports(https))}, reasons: "PortConflict", message: "ports: https TCP/443 in m2 counts (m2 has the oldest export), but http TCP/80 in m1; each port is served by the clusters that expose it", check: func(p *properties) any { return p.Ports }, want: []port{https, http}},
		"port name":      {reason: "ports merge by name first: the older number stays, the younger is not added", exports: exports{"m1": export(0, ports(http)), "m2": export(1, ports(port{Name: "http", Port: 8080}))}, reasons: "PortConflict", message: "http TCP/8080 in m2", check: func(p *properties) any { return p.Ports }, want: []port{http}},
		"port number":    {reason: "then by protocol and number: the older name stays", exports: exports{"m1": export(0, ports(http)), "m2": export(1, ports(port{Name: "web", Port: 80}))}, reasons: "PortConflict", check: func(p *properties) any { return p.Ports }, want: []port{http}},
		"port protocol":  {reason: "another protocol is another port", exports: exports{"m1": export(0, ports(http)), "m2": export(1, ports(http, port{Name: "quic", Protocol: corev1.ProtocolUDP, Port: 80}))}, reasons: "PortConflict", check: func(p *properties) any { return len(p.Ports) }, want: 2},
		"app protocol":   {reason: "the application protocol belongs to the port", exports: exports{"m1": export(0), "m2": export(1, ports(port{Name: "http", Port: 80, AppProtocol: "kubernetes.io/h2c"}))}, reasons: "PortConflict", message: "http TCP/80 kubernetes.io/h2c in m2", check: func(p *properties) any { return p.Ports[0].AppProtocol }, want: ""},
		"port order":     {reason: "the order in which ports are written is no difference", exports: exports{"m1": export(0, ports(http, https)), "m2": export(1, ports(https, http))}, check: func(p *properties) any { return p.Ports }, want: []port{http, https}},
		"affinity":       {reason: "affinity follows the oldest; its configuration only compares where the affinity agrees", exports: exports{"m1": export(0, sticky(60)), "m2": export(1)}, reasons: "SessionAffinityConflict", message: "sessionAffinity: ClientIP in m1 counts (m1 has the oldest export), but None in m2", check: func(p *properties) any { return p.AffinityTimeout }, want: int32(60)},
		"affinity time":  {reason: "the configuration follows the oldest", exports: exports{"m1": export(1, sticky(60)), "m2": export(0, sticky(0))}, reasons: "SessionAffinityConfigConflict", message: "timeoutSeconds: 10800 in m2 counts", check: func(p *properties) any { return p.AffinityTimeout }, want: int32(10800)},
		"labels":         {reason: "exported labels follow the oldest as a whole", exports: exports{"m1": export(0, label("a")), "m2": export(1, label("b"))}, reasons: "LabelsConflict", message: "exportedLabels: {team=a} in m1 counts (m1 has the oldest export), but {team=b} in m2", check: func(p *properties) any { return p.Labels }, want: map[string]string{"team": "a"}},
		"annotations":    {reason: "exported annotations follow the oldest as a whole", exports: exports{"m1": export(0), "m2": export(1, annotate("b"))}, reasons: "AnnotationsConflict", message: "{owner=b} in m2", check: func(p *properties) any { return p.Annotations }, want: map[string]string(nil)},
		"traffic policy": {reason: "the internal traffic policy follows the oldest", exports: exports{"m1": export(0, local), "m2": export(1)}, reasons: "InternalTrafficPolicyConflict", message: "internalTrafficPolicy: Local in m1 counts", check: func(p *properties) any { return p.InternalTrafficPolicy }, want: corev1.ServiceInternalTrafficPolicyLocal},
		"distribution":   {reason: "traffic distribution follows the oldest", exports: exports{"m1": export(0), "m2": export(1, preferClose)}, reasons: "TrafficDistributionConflict", message: "trafficDistribution: not set in m1 counts (m1 has the oldest export), but PreferClose in m2", check: func(p *properties) any { return p.TrafficDistribution }, want: ""},
		"families":       {reason: "one family would reach only some backends", exports: exports{"m1": export(0, families("IPv6", "IPv4")), "m2": export(1)}, reasons: "IPFamilyConflict", message: "ipFamilies: IPv4, IPv6 in m1 counts (m1 has the oldest export), but IPv4 in m2", check: func(p *properties) any { return p.IPFamilies }, want: []corev1.IPFamily{"IPv6", "IPv4"}},
		"family order":   {reason: "both families reach all backends in any order", exports: exports{"m1": export(0, families("IPv6", "IPv4")), "m2": export(1, families("IPv4", "IPv6"))}},
		"several":        {reason: "several reasons are joined, in the order of the table", exports: exports{"m1": export(0, headless, local), "m2": export(1, ports(https))}, reasons: "PortConflict,TypeConflict,InternalTrafficPolicyConflict"},
		"ExternalName":   {reason: "an export that is not valid takes no part, though it is the oldest", exports: exports{"m1": export(0, externalName, headless), "m2": export(1)}, check: func(p *properties) any { return p.Headless }, want: false},
		"no Service":     {reason: "an export without a Service takes no part", exports: exports{"m1": {Created: epoch}, "m2": export(1)}, check: func(p *properties) any { return p.Ports }, want: []port{http}},
		"three values":   {reason: "clusters are grouped by what they say", exports: exports{"m1": export(0), "m2": export(1, label("b")), "m3": export(2, label("a")), "m4": export(3, label("b"))}, reasons: "LabelsConflict", message: "{} in m1 counts (m1 has the oldest export), but {team=a} in m3; {team=b} in m2, m4"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			service := publish(tt.exports).Service(web)
			var reasons, messages []string
			for _, conflict := range service.Conflicts {
				reasons, messages = append(reasons, conflict.Reason), append(messages, conflict.Message)
			}
			if got := strings.Join(reasons, ","); got != tt.reasons {
				t.Errorf("conflicts are %q, want %q: %s", got, tt.reasons, tt.reason)
			}
			if got := strings.Join(messages, "\n"); !strings.Contains(got, tt.message) {
				t.Errorf("messages are %q, want %q in them: %s", got, tt.message, tt.reason)
			}
			if tt.check != nil {
				if diff := cmp.Diff(tt.want, tt.check(service.Properties)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
				}
			}
			for cluster, e := range tt.exports {
				want := metav1.ConditionFalse
				if valid := e.Properties != nil && e.Properties.Type != corev1.ServiceTypeExternalName; valid && tt.reasons != "" {
					want = metav1.ConditionTrue
				}
				conflict := service.Conditions(cluster)[2]
				if conflict.Type != clusterset.ConditionConflict || conflict.Status != want {
					t.Errorf("the export of %s says %+v, want %s: a conflict is told on all constituents", cluster, conflict, want)
				}
			}
		})
	}
}

func TestConditions(t *testing.T) {
	tests := map[string]struct {
		reason string
		export clusterset.Export
		unread bool
		want   []string // type, status, reason
	}{
		"valid":        {reason: "a valid export is exported", export: export(0), want: []string{"Valid=True/Valid", "Ready=True/Exported", "Conflict=False/NoConflicts"}},
		"unread":       {reason: "without having read endpoints nothing can be promised", export: export(0), unread: true, want: []string{"Valid=True/Valid", "Ready=False/Pending", "Conflict=False/NoConflicts"}},
		"no Service":   {reason: "an export names a Service that has to exist", export: clusterset.Export{Created: epoch}, want: []string{"Valid=False/NoService", "Ready=False/Failed", "Conflict=False/NoConflicts"}},
		"ExternalName": {reason: "KEP-1645: ExternalName cannot be exported", export: export(0, externalName), want: []string{"Valid=False/InvalidServiceType", "Ready=False/Failed", "Conflict=False/NoConflicts"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := clusterset.NewBuilder(0)
			b.SetExport("m1", web, tt.export)
			if !tt.unread {
				b.SetEndpoints("m1", web, clusterset.Endpoints{})
			}
			service := b.Publish().Service(web)
			var got []string
			for _, c := range service.Conditions("m1") {
				got = append(got, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
				if c.Message == "" {
					t.Errorf("%s has no message", c.Type)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
			if service.Conditions("m2") != nil {
				t.Error("a cluster that does not export has conditions")
			}
		})
	}
}

func TestConflictMessageIsBounded(t *testing.T) {
	all := exports{}
	for i := range 300 {
		all[fmt.Sprintf("cluster-%03d", i)] = export(i, label(strings.Repeat("x", 300)+strconv.Itoa(i)))
	}
	conflict := publish(all).Service(web).Conditions("cluster-000")[2]
	if len(conflict.Message) > 32768 || !strings.Contains(conflict.Message, "more values") {
		t.Errorf("the message has %d bytes: the API takes 32768, and people even less", len(conflict.Message))
	}
}

// TestExposedPort covers who serves which port of a union.
func TestExposedPort(t *testing.T) {
	service := publish(exports{
		"m1": export(0, ports(http)),
		"m2": export(1, ports(port{Name: "web", Port: 80}, https)),
		"m3": export(2, ports(port{Name: "http", Port: 8080})),
		"m4": export(3, externalName),
	}).Service(web)
	tests := map[string]struct {
		cluster, port string
		want          string
	}{
		"the oldest's own":                      {"m1", "http", "http"},
		"not exposed":                           {"m1", "https", ""},
		"exposed under another name":            {"m2", "http", "web"},
		"added by a younger one":                {"m2", "https", "https"},
		"the same name and another number":      {"m3", "http", ""},
		"not valid":                             {"m4", "http", ""},
		"a cluster that does not export at all": {"m5", "http", ""},
	}
	for reason, tt := range tests {
		i, found := service.Port(tt.port)
		if !found {
			t.Fatalf("no port %s in %v", tt.port, service.Properties.Ports)
		}
		got, exposed := service.ExposedPort(tt.cluster, i)
		if got.Name != tt.want || exposed != (tt.want != "") {
			t.Errorf("%s: %s stands behind %s in %s, want %q", reason, got.Name, tt.port, tt.cluster, tt.want)
		}
	}
	if _, exposed := service.ExposedPort("m1", 99); exposed {
		t.Error("a port that does not exist is exposed")
	}
}
