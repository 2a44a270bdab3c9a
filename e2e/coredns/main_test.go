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
	t.Setenv("CLUSTERSET_DNS", clusterSetServer(t))
	at := serve(t, loopback(t, string(text), apiServer(t)))
	const (
		clusterSet = "clusterset.local.\t5\tIN\tSOA\tns.dns.clusterset.local. hostmaster.clusterset.local. 7 7200 1800 86400 5"
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

		{"clusterset.local.", dns.TypeSOA, dns.RcodeSuccess, clusterSet, "", "the zone is another server's"},
		{"ClusterSet.local.", dns.TypeTXT, dns.RcodeSuccess, "", clusterSet, "names are the same in capitals"},
		{"web.shop.svc.clusterset.local.", dns.TypeA, dns.RcodeSuccess, "web.shop.svc.clusterset.local.\t5\tIN\tA\t10.97.1.1", "", "what it says is the answer"},
		{"no.shop.svc.clusterset.local.", dns.TypeA, dns.RcodeNameError, "", clusterSet, "also that there is no such name"},
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

// TestNobodyAnswersForTheClusterSet holds that names of the cluster set fail at once while their server does not run, and
// are there with it. It runs that zone alone: two of CoreDNS's kubernetes plugins in one process race for klog's logger.
func TestNobodyAnswersForTheClusterSet(t *testing.T) {
	text, err := os.ReadFile(corefile)
	if err != nil {
		t.Fatal(err)
	}
	_, zone, found := strings.Cut(string(text), "clusterset.local:53 {")
	zone, _, closes := strings.Cut(zone, "\n}")
	if !found || !closes {
		t.Fatalf("%s has no block for clusterset.local: change this test with it", corefile)
	}
	zone = "clusterset.local:0 {" + strings.Replace(zone, "\n    errors\n", "\n    errors\n    bind 127.0.0.1\n", 1) + "\n}\n"
	// An address of its own: a port of 127.0.0.1 may become that of somebody's connection before the server has it.
	closed, err := net.ListenPacket("udp4", "127.0.5.3:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.LocalAddr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLUSTERSET_DNS", nobody)
	at := serve(t, zone)
	ask := func(network string) (*dns.Msg, time.Duration) {
		client := dns.Client{Net: network, Timeout: 5 * time.Second}
		began := time.Now()
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("web.shop.svc.clusterset.local.", dns.TypeA), at[network])
		if err != nil {
			t.Fatalf("over %s: %v", network, err)
		}
		return reply, time.Since(began)
	}
	for range 5 { // it does not get slower when nobody has answered before
		for network := range at {
			if reply, took := ask(network); reply.Rcode != dns.RcodeServerFailure || took > time.Second {
				t.Errorf("over %s after %s:\n%v", network, took, reply)
			}
		}
	}
	serveClusterSet(t, nobody)
	if reply, _ := ask("udp"); !begins(reply.Answer, "web.shop.svc.clusterset.local.") {
		t.Errorf("once the server runs:\n%v", reply)
	}
}

// clusterSetServer is a server for names of the cluster set. It returns its address.
func clusterSetServer(t *testing.T) string {
	t.Helper()
	return serveClusterSet(t, "127.0.0.1:0")
}

// serveClusterSet has a server at an address know one name.
func serveClusterSet(t *testing.T, address string) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	record := func(text string) dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	soa := record("clusterset.local. 5 IN SOA ns.dns.clusterset.local. hostmaster.clusterset.local. 7 7200 1800 86400 5")
	web := record("web.shop.svc.clusterset.local. 5 IN A 10.97.1.1")
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		reply.Authoritative = true
		q := query.Question[0]
		switch {
		case q.Name == web.Header().Name && q.Qtype == dns.TypeA:
			reply.Answer = []dns.RR{web}
		case strings.EqualFold(q.Name, soa.Header().Name) && q.Qtype == dns.TypeSOA:
			reply.Answer = []dns.RR{soa}
		case strings.EqualFold(q.Name, soa.Header().Name):
			reply.Ns = []dns.RR{soa}
		default:
			reply.Rcode, reply.Ns = dns.RcodeNameError, []dns.RR{soa}
		}
		_ = w.WriteMsg(reply)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Errorf("stopping the server of the cluster set: %v", err)
			}
			if err := <-done; err != nil {
				t.Errorf("serving the cluster set: %v", err)
			}
		})
	}
	return packets.LocalAddr().String()
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
