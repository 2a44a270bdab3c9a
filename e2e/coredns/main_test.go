package main_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// corefile is what the lab gives every cluster; it belongs to a module that knows nothing of CoreDNS.
const corefile = "../lab/addons/Corefile"

// loopback changes the lab's Corefile for a test: no address but of 127.0.0.1, no port that somebody else may have, and
// the API at that URL instead of that of the Pod's cluster. Each line occurs as often as it says.
func loopback(t *testing.T, text, api string) string {
	t.Helper()
	for _, change := range []struct {
		old, now string
		times    int
	}{
		{":53", ":0", 5},
		{"\n    errors\n", "\n    errors\n    bind 127.0.0.1\n", 3},
		{"\n    health\n", "\n    health 127.0.0.1:0\n", 1},
		{"\n    ready\n", "\n    ready 127.0.0.1:0\n", 1},
		{"\n    prometheus :9153\n", "\n    prometheus 127.0.0.1:0\n", 1},
		{"\n        pods insecure\n", "\n        pods insecure\n        endpoint " + api + "\n", 1},
	} {
		if n := strings.Count(text, change.old); n != change.times {
			t.Fatalf("%s has %q %d times, not %d: change this test with it", corefile, change.old, n, change.times)
		}
		text = strings.ReplaceAll(text, change.old, change.now)
	}
	return text
}

// serve starts CoreDNS and returns where it listens, by network.
func serve(t *testing.T, text string) map[string]string {
	t.Helper()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(text), Filepath: corefile, ServerTypeName: "dns"})
	if err != nil {
		t.Fatalf("starting CoreDNS: %v", err)
	}
	t.Cleanup(func() {
		for _, err := range instance.ShutdownCallbacks() {
			t.Errorf("stopping CoreDNS: %v", err)
		}
		if err := instance.Stop(); err != nil {
			t.Errorf("stopping CoreDNS: %v", err)
		}
	})
	at := map[string]string{}
	for _, server := range instance.Servers() {
		at["tcp"], at["udp"] = server.Addr().String(), server.LocalAddr().String()
	}
	if len(instance.Servers()) != 1 {
		t.Errorf("CoreDNS has %d servers; all zones should share one", len(instance.Servers()))
	}
	return at
}

func TestCorefile(t *testing.T) {
	text, err := os.ReadFile(corefile)
	if err != nil {
		t.Fatal(err)
	}
	at := serve(t, loopback(t, string(text), apiServer(t)))
	const (
		clusterSet = "clusterset.local.\t5\tIN\tSOA\tns.dns.clusterset.local. hostmaster.clusterset.local. 1 7200 1800 86400 5"
		root       = ".\t5\tIN\tSOA\troot.invalid. hostmaster.invalid. 1 7200 1800 86400 5"
	)
	for _, test := range []struct {
		name   string
		kind   uint16
		rcode  int
		answer string // whole, or as much of its beginning as matters
		soa    string // in the authority section; likewise
		reason string
	}{
		{"web.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, "web.shop.svc.cluster.local.\t5\tIN\tA\t10.96.1.1", "", "a Service has an address, for 5 s"},
		{"web.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, "", "cluster.local.\t5\tIN\tSOA", "a Service without IPv6 exists all the same"},
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, "_http._tcp.web.shop.svc.cluster.local.\t5\tIN\tSRV\t0 100 80 web.shop.svc.cluster.local.", "", "its port has a name"},
		{"db-0.db.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, "db-0.db.shop.svc.cluster.local.\t5\tIN\tA\t10.0.1.7", "", "the Pods of a StatefulSet have names"},
		{"db-1.db.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, "", "cluster.local.\t5\tIN\tSOA", "this one is not ready"},
		{"nobody.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, "", "cluster.local.\t5\tIN\tSOA", "no such Service"},
		{"10-0-1-7.shop.pod.cluster.local.", dns.TypeA, dns.RcodeSuccess, "10-0-1-7.shop.pod.cluster.local.\t5\tIN\tA\t10.0.1.7", "", "Pods have names by their addresses"},
		{"1.1.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "1.1.96.10.in-addr.arpa.\t5\tIN\tPTR\tweb.shop.svc.cluster.local.", "", "the address of a Service leads back"},
		{"9.9.9.9.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, "", "", "an address of nobody's is not asked for elsewhere"},

		{"clusterset.local.", dns.TypeSOA, dns.RcodeSuccess, clusterSet, "", "the zone exists"},
		{"clusterset.local.", dns.TypeA, dns.RcodeSuccess, "", clusterSet, "its apex has nothing else: NODATA"},
		{"ClusterSet.local.", dns.TypeTXT, dns.RcodeSuccess, "", clusterSet, "names are the same in capitals"},
		{"web.shop.svc.clusterset.local.", dns.TypeA, dns.RcodeNameError, "", clusterSet, "nobody imports a Service"},
		{"web.shop.svc.clusterset.local.", dns.TypeAAAA, dns.RcodeNameError, "", clusterSet, "the same for either type: clients ask for both"},
		{"svc.clusterset.local.", dns.TypeSOA, dns.RcodeNameError, "", clusterSet, "there is nothing below the apex"},
		{"dns-version.clusterset.local.", dns.TypeTXT, dns.RcodeNameError, "", clusterSet, "nobody serves the zone by its schema"},
		{"xclusterset.local.", dns.TypeA, dns.RcodeNameError, "", root, "another zone"},

		{"example.com.", dns.TypeA, dns.RcodeNameError, "", root, "there is nothing outside of the lab"},
		{"web.", dns.TypeA, dns.RcodeNameError, "", root, "the last try of a resolver with search domains"},
	} {
		for network, address := range at {
			client := dns.Client{Net: network, Timeout: 5 * time.Second}
			question := new(dns.Msg).SetQuestion(test.name, test.kind)
			reply, _, err := client.Exchange(question, address)
			if err != nil {
				t.Fatalf("%s %s over %s: %v", test.name, dns.TypeToString[test.kind], network, err)
			}
			switch {
			case reply.Rcode != test.rcode, !begins(reply.Answer, test.answer), !begins(reply.Ns, test.soa) && test.soa != "":
				t.Errorf("%s, so over %s not\n%v", test.reason, network, reply)
			case !reply.Authoritative:
				t.Errorf("%s over %s: the answer is not authoritative", test.name, network)
			}
		}
	}
}

// begins tells whether records are one that begins with a text, or none if the text is empty.
func begins(records []dns.RR, text string) bool {
	if text == "" {
		return len(records) == 0
	}
	return len(records) == 1 && strings.HasPrefix(records[0].String(), text)
}

// apiServer is an API that has two Services of the namespace shop, web with an address and db without, and never changes.
func apiServer(t *testing.T) string {
	t.Helper()
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	list := metav1.ListMeta{ResourceVersion: "1"}
	slice := named("db-1")
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "db"}
	lists := map[string]any{
		"/api/v1/namespaces": corev1.NamespaceList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NamespaceList"}, ListMeta: list,
			Items: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
		},
		"/api/v1/services": corev1.ServiceList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"}, ListMeta: list,
			Items: []corev1.Service{
				{ObjectMeta: named("web"), Spec: corev1.ServiceSpec{
					ClusterIP: "10.96.1.1", ClusterIPs: []string{"10.96.1.1"},
					Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
				}},
				{ObjectMeta: named("db"), Spec: corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}},
			},
		},
		"/apis/discovery.k8s.io/v1/endpointslices": discoveryv1.EndpointSliceList{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"}, ListMeta: list,
			Items: []discoveryv1.EndpointSlice{{
				ObjectMeta: slice, AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{
					{Addresses: []string{"10.0.1.7"}, Hostname: new("db-0"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
					{Addresses: []string{"10.0.1.8"}, Hostname: new("db-1"), Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
				},
				Ports: []discoveryv1.EndpointPort{{Name: new("sql"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(5432))}},
			}},
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, ok := lists[r.URL.Path]
		query := r.URL.Query()
		switch {
		case !ok:
			http.NotFound(w, r)
			return
		case query.Get("sendInitialEvents") != "": // a client then lists
			http.Error(w, "only lists", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if query.Get("watch") != "" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		if err := json.NewEncoder(w).Encode(found); err != nil {
			t.Errorf("answering %s: %v", r.URL, err)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // or watches would hold it up
		server.Close()
	})
	if host, _, err := net.SplitHostPort(server.Listener.Addr().String()); err != nil || host != "127.0.0.1" {
		t.Fatalf("the test's API listens on %s", server.Listener.Addr())
	}
	return server.URL
}
