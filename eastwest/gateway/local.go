package gateway

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Snapshots is where the service table comes from.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// LocalOptions say what a Local routes to.
type LocalOptions struct {
	Snapshots Snapshots
	// Cluster is the own one: connections go to its endpoints, and to services that it exports.
	Cluster string
	// Opens tells whether a service may be reached by a source, whose TLS passes unseen. Without it, none may.
	Opens func(key clusterset.Key, source netip.Addr) bool
	// Proxy tells whether the endpoints of a service expect the PROXY protocol. Without it, none do.
	Proxy func(key clusterset.Key) bool
}

// Local is a Router to the ready endpoints of one's own cluster. What policies say about who uses which cluster has been
// settled by who sends the connection here; it is not asked again.
type Local struct {
	options LocalOptions

	mu     sync.RWMutex
	routes map[route]*entry
}

// route is a service and one of its ports; 0: the name did not say which.
type route struct {
	key  clusterset.Key
	port uint16
}

// entry is what is known of a route, as of a service that has not changed.
type entry struct {
	service *clusterset.Service
	port    uint16
	pool    *Pool // nil: no such port
}

// NewLocal returns a router.
func NewLocal(o LocalOptions) *Local { return &Local{options: o, routes: map[route]*entry{}} }

// Route decides by the current snapshot.
func (l *Local) Route(target hello.Target, source netip.Addr) Decision {
	snapshot, _ := l.options.Snapshots.Current()
	service := snapshot.Service(target.Key)
	switch {
	case service == nil:
		return Decision{Refusal: UnknownService}
	case target.Subset != "":
		return Decision{Refusal: UnknownSubset}
	}
	found := l.entry(snapshot, service, target.Port)
	switch {
	case found == nil:
		return Decision{Refusal: UnknownService}
	case l.options.Opens == nil || !l.options.Opens(target.Key, source):
		return Decision{Refusal: Forbidden}
	case found.pool == nil:
		return Decision{Refusal: UnknownPort}
	case found.pool.Len() == 0:
		return Decision{Refusal: NoEndpoint}
	}
	proxy := l.options.Proxy != nil && l.options.Proxy(target.Key)
	return Decision{Pool: found.pool, Port: found.port, Proxy: proxy}
}

// entry returns what is known of a route, or nil when the cluster does not export the service.
func (l *Local) entry(snapshot *clusterset.Snapshot, service *clusterset.Service, port uint16) *entry {
	at := route{service.Key, port}
	l.mu.RLock()
	found := l.routes[at]
	l.mu.RUnlock()
	if found != nil && found.service == service {
		return found
	}
	i, exported := source(service, l.options.Cluster)
	if !exported {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(snapshot)
	var old *Pool
	if found = l.routes[at]; found != nil {
		old = found.pool
	}
	found = &entry{service: service}
	if index, ok := choose(service, l.options.Cluster, port); ok {
		found.port = uint16(service.Properties.Ports[index].Port) //nolint:gosec // G115: ports have 16 bits
		found.pool = NewPool(ready(service, l.options.Cluster, i, index), old)
	}
	if found.pool == nil && port != 0 {
		return found // ports that do not exist are many; they are not worth memory
	}
	l.routes[at] = found
	return found
}

// prune forgets services that are gone, once they may be the most.
func (l *Local) prune(snapshot *clusterset.Snapshot) {
	if len(l.routes) < 64+4*snapshot.Len() {
		return
	}
	for at := range l.routes {
		if snapshot.Service(at.key) == nil {
			delete(l.routes, at)
		}
	}
}

// source returns the index of a cluster's export, if it is valid.
func source(service *clusterset.Service, cluster string) (int, bool) {
	if !slices.Contains(service.Exporters(), cluster) {
		return 0, false
	}
	return slices.BinarySearchFunc(service.Sources, cluster, func(s clusterset.Source, id string) int { return cmp.Compare(s.Cluster, id) })
}

// choose returns the index of the port that is meant, of those that the cluster exposes for TCP. Where the name does not
// say, it is 443; without that the only one that is for TLS by its appProtocol or name; without those the only one.
func choose(service *clusterset.Service, cluster string, number uint16) (int, bool) {
	var usable, secure []int
	for i, p := range service.Properties.Ports {
		if _, exposed := service.ExposedPort(cluster, i); !exposed || p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Port == int32(cmp.Or(number, 443)) {
			return i, true
		}
		usable = append(usable, i)
		if forTLS(p) {
			secure = append(secure, i)
		}
	}
	switch {
	case number != 0:
		return 0, false
	case len(secure) == 1:
		return secure[0], true
	case len(usable) == 1:
		return usable[0], true
	default:
		return 0, false
	}
}

// forTLS tells whether a port says that it takes TLS: by its appProtocol, or else by its name.
func forTLS(p clusterset.Port) bool {
	said := strings.ToLower(cmp.Or(p.AppProtocol, p.Name))
	said = strings.TrimPrefix(said, "kubernetes.io/")
	for _, protocol := range []string{"https", "tls", "wss", "grpcs"} {
		if said == protocol || strings.HasPrefix(said, protocol+"-") {
			return true
		}
	}
	return false
}

// ready returns the addresses of the cluster's ready endpoints for a port, sorted, without repetitions, of one family: the
// first of the service's that has any, since a pod that has an address of each is still one pod.
func ready(service *clusterset.Service, cluster string, source, index int) []netip.AddrPort {
	src := &service.Sources[source]
	own, _ := service.ExposedPort(cluster, index)
	if src.Endpoints == nil {
		return nil
	}
	var families [2][]netip.AddrPort // IPv4, IPv6
	for _, g := range src.Endpoints.Groups {
		at := slices.IndexFunc(g.Ports, func(p clusterset.TargetPort) bool {
			return p.Name.String() == own.Name && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP)
		})
		if at < 0 {
			continue
		}
		for _, e := range g.Endpoints {
			if !e.Conditions.Has(clusterset.Ready) || e.Conditions.Has(clusterset.Terminating) {
				continue
			}
			family := 0
			if e.Addr.Is6() {
				family = 1
			}
			families[family] = append(families[family], netip.AddrPortFrom(e.Addr, g.Ports[at].Port))
		}
	}
	first := 0
	if f := src.Properties.IPFamilies; len(f) > 0 && f[0] == corev1.IPv6Protocol {
		first = 1
	}
	addrs := families[first]
	if len(addrs) == 0 {
		addrs = families[1-first]
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs)
}
