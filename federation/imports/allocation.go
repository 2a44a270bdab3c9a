package imports

import (
	"cmp"
	"hash/fnv"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Ports of gateways for services: below what nodes give to connections (32768) and to NodePorts (30000).
const (
	FirstGatewayPort = 20000
	LastGatewayPort  = 29999
)

// Allocation says which ports of the gateways of one importing cluster belong to which service. It is kept on the derived
// Services themselves, so a port stays for as long as its Service does, over restarts and over gateways that come and go, and
// is the same on all gateways of the cluster. Its methods may be called by several goroutines.
type Allocation struct {
	mu    sync.Mutex
	owner map[gatewayPortID]clusterset.Key
	held  map[clusterset.Key][]clusterset.GatewayPort
}

type gatewayPortID struct {
	protocol corev1.Protocol
	port     uint16
}

// NewAllocation returns one in which nothing is taken.
func NewAllocation() *Allocation {
	return &Allocation{owner: map[gatewayPortID]clusterset.Key{}, held: map[clusterset.Key][]clusterset.GatewayPort{}}
}

// See notes what a derived Service says. A port that two Services say is that of the one whose key sorts first, and one
// out of range is nobody's; it returns the services that need another.
func (a *Allocation) See(key clusterset.Key, ports []clusterset.GatewayPort) (losers []clusterset.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(key)
	for _, port := range ports {
		port.Protocol = protocolOf(port.Protocol)
		id := gatewayPortID{port.Protocol, port.Port}
		if port.Port < FirstGatewayPort || port.Port > LastGatewayPort {
			losers = append(losers, key)
			continue
		}
		if owner, taken := a.owner[id]; taken {
			if compare(owner, key) <= 0 {
				losers = append(losers, key)
				continue
			}
			losers = append(losers, owner)
			a.held[owner] = slices.DeleteFunc(slices.Clone(a.held[owner]), func(p clusterset.GatewayPort) bool { return gatewayPortID{p.Protocol, p.Port} == id })
		}
		a.take(key, port)
	}
	return slices.Compact(losers)
}

// Forget gives back what a service had.
func (a *Allocation) Forget(key clusterset.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(key)
}

// Assign returns a port of the gateways for each of the given ports of a service, in their order: the one that it has, else,
// with grow, a free one. Where nothing is free, or without grow, a port is left out.
func (a *Allocation) Assign(key clusterset.Key, ports []clusterset.Port, grow bool) []clusterset.GatewayPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.held[key]
	var assigned []clusterset.GatewayPort
	for _, port := range ports {
		wanted := clusterset.GatewayPort{Name: port.Name, Protocol: protocolOf(port.Protocol), Port: gatewayPort(before, port)}
		if wanted.Port == 0 && grow {
			wanted.Port = a.free(key, wanted)
			if wanted.Port != 0 {
				a.take(key, wanted)
			}
		}
		if wanted.Port != 0 {
			assigned = append(assigned, wanted)
		}
	}
	return assigned
}

// free returns a free port: the one that the name makes, else the next. So a cluster that lost all its Services mostly gets
// the same ports again.
func (a *Allocation) free(key clusterset.Key, port clusterset.GatewayPort) uint16 {
	const size = LastGatewayPort - FirstGatewayPort + 1
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key.String() + "/" + port.Name + "/" + string(port.Protocol))) // never fails
	first := hash.Sum32() % size
	for i := range uint32(size) {
		candidate := uint16(FirstGatewayPort + (first+i)%size)
		if _, taken := a.owner[gatewayPortID{port.Protocol, candidate}]; !taken {
			return candidate
		}
	}
	return 0
}

func (a *Allocation) take(key clusterset.Key, port clusterset.GatewayPort) {
	a.owner[gatewayPortID{port.Protocol, port.Port}] = key
	a.held[key] = append(slices.Clone(a.held[key]), port)
}

func (a *Allocation) drop(key clusterset.Key) {
	for _, port := range a.held[key] {
		if id := (gatewayPortID{port.Protocol, port.Port}); a.owner[id] == key {
			delete(a.owner, id)
		}
	}
	delete(a.held, key)
}

func compare(a, b clusterset.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
