package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// What there is to ask for: services with an address, and headless ones with some endpoints each. All are in the
// cluster that asks.
const (
	apex      = "clusterset.local."
	cluster   = "c1"
	addressed = 1000
	headless  = 100
	endpoints = 5
	spaces    = 10
	port      = 80
)

// service is one name, the same in every server.
type service struct {
	name, namespace string
	addrs           []netip.Addr // of the service, or of its endpoints
	headless        bool
}

// services returns all of them.
func services() []service {
	all := make([]service, 0, addressed+headless)
	for i := range addressed + headless {
		s := service{name: fmt.Sprintf("service-%04d", i), namespace: fmt.Sprintf("team-%d", i%spaces), headless: i >= addressed}
		if !s.headless {
			s.addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}
		} else {
			for n := range endpoints {
				s.addrs = append(s.addrs, netip.AddrFrom4([4]byte{10, 32, byte(i - addressed), byte(n + 1)})) //nolint:gosec // G115: some hundreds at most
			}
		}
		all = append(all, s)
	}
	return all
}

// fqdn is where the service's addresses are.
func (s service) fqdn() string { return s.name + "." + s.namespace + ".svc." + apex }

// snapshot is the table of services as Hansa has it.
func snapshot() *clusterset.Snapshot {
	b := clusterset.NewBuilder(1)
	b.SetCluster(clusterset.Cluster{ID: cluster, Network: "flat"})
	for _, s := range services() {
		key := clusterset.Key{Namespace: s.namespace, Name: s.name}
		b.SetExport(cluster, key, clusterset.Export{
			Created:    time.Unix(1, 0),
			Properties: &clusterset.Properties{Headless: s.headless, Ports: []clusterset.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: port}}},
		})
		group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: port}}}
		for i, addr := range s.addrs {
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: addr, Hostname: clusterset.Intern(fmt.Sprintf("pod-%d", i)), Conditions: clusterset.Ready | clusterset.Serving,
			})
		}
		b.SetEndpoints(cluster, key, clusterset.Endpoints{Groups: []clusterset.Group{group}})
		if !s.headless {
			b.SetImport(cluster, key, clusterset.Import{ClusterIPs: s.addrs})
		}
	}
	return b.Publish()
}

// zoneFile is the same as an RFC 1035 zone.
func zoneFile() string {
	var z strings.Builder
	fmt.Fprintf(&z, "$ORIGIN %s\n$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 127.0.0.1\n", apex)
	for _, s := range services() {
		for i, addr := range s.addrs {
			fmt.Fprintf(&z, "%s A %s\n", s.fqdn(), addr)
			target := s.fqdn()
			if s.headless {
				target = fmt.Sprintf("pod-%d.%s.%s", i, cluster, s.fqdn())
				fmt.Fprintf(&z, "%s A %s\n", target, addr)
			}
			fmt.Fprintf(&z, "_http._tcp.%s SRV 0 50 %d %s\n", s.fqdn(), port, target)
		}
	}
	return z.String()
}

// question is one of the mix.
type question struct {
	name  string
	qtype uint16
}

// mix returns n questions: 90 % addresses, 5 % ports, 5 % names that do not exist. It is always the same.
func mix(n int) []question {
	all, rnd := services(), rand.New(rand.NewPCG(1, 2)) //nolint:gosec // G404: repeatable, not secret
	questions := make([]question, n)
	for i := range questions {
		s := all[rnd.IntN(len(all))]
		switch kind := rnd.IntN(100); {
		case kind < 90:
			questions[i] = question{s.fqdn(), miekg.TypeA}
		case kind < 95:
			questions[i] = question{"_http._tcp." + s.fqdn(), miekg.TypeSRV}
		default:
			questions[i] = question{"missing-" + s.fqdn(), miekg.TypeA}
		}
	}
	return questions
}

// packed are the questions as queries of resolvers: with EDNS, 1,232 octets.
func packed(questions []question) ([][]byte, error) {
	queries := make([][]byte, len(questions))
	for i, q := range questions {
		message := new(miekg.Msg)
		message.SetQuestion(q.name, q.qtype)
		message.SetEdns0(1232, false)
		query, err := message.Pack()
		if err != nil {
			return nil, fmt.Errorf("packing a query for %s: %w", q.name, err)
		}
		queries[i] = query
	}
	return queries, nil
}

// text is the questions as dnsperf reads them.
func text(questions []question) string {
	var t strings.Builder
	for _, q := range questions {
		fmt.Fprintf(&t, "%s %s\n", q.name, miekg.TypeToString[q.qtype])
	}
	return t.String()
}
