package wire

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// encoder writes a body, and collects the words that it uses: names repeat in every endpoint.
type encoder struct {
	body  []byte
	words []string
	index map[string]uint64
}

func (e *encoder) number(n uint64) { e.body = binary.AppendUvarint(e.body, n) }
func (e *encoder) count(n int)     { e.number(uint64(n)) } //nolint:gosec // G115: lengths are not negative

func (e *encoder) signed(n int64) { e.body = binary.AppendVarint(e.body, n) }

func (e *encoder) word(s string) {
	at, found := e.index[s]
	if !found {
		at = uint64(len(e.words))
		e.index[s] = at
		e.words = append(e.words, s)
	}
	e.number(at)
}

func (e *encoder) flag(b bool) {
	if b {
		e.body = append(e.body, 1)
	} else {
		e.body = append(e.body, 0)
	}
}

func (e *encoder) key(k clusterset.Key) {
	e.word(k.Namespace)
	e.word(k.Name)
}

func (e *encoder) addr(a netip.Addr) {
	bytes := a.AsSlice()
	e.body = append(e.body, byte(len(bytes))) //nolint:gosec // G115: at most 16
	e.body = append(e.body, bytes...)
}

func (e *encoder) strings(m map[string]string) {
	e.count(len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e.word(k)
		e.word(m[k])
	}
}

func (e *encoder) known(known clusterset.Known) {
	e.count(len(known.Exports))
	for _, key := range sorted(known.Exports) {
		e.key(key)
		e.export(known.Exports[key])
	}
	e.count(len(known.Endpoints))
	for _, key := range sorted(known.Endpoints) {
		e.key(key)
		e.endpoints(known.Endpoints[key])
	}
	e.count(len(known.Imports))
	for _, key := range sorted(known.Imports) {
		e.key(key)
		e.derived(known.Imports[key])
	}
}

// derived writes an import; the cluster is that of the whole.
func (e *encoder) derived(i clusterset.Import) {
	e.count(len(i.ClusterIPs))
	for _, addr := range i.ClusterIPs {
		e.addr(addr)
	}
	e.count(len(i.GatewayPorts))
	for _, port := range i.GatewayPorts {
		e.word(port.Name)
		e.word(string(port.Protocol))
		e.number(uint64(port.Port))
	}
}

func (e *encoder) export(x clusterset.Export) {
	e.flag(!x.Created.IsZero())
	if !x.Created.IsZero() {
		e.signed(x.Created.Unix())
		e.count(x.Created.Nanosecond())
	}
	e.flag(x.Properties != nil)
	if x.Properties == nil {
		return
	}
	p := x.Properties
	e.word(string(p.Type))
	e.flag(p.Headless)
	e.count(len(p.Ports))
	for _, port := range p.Ports {
		e.word(port.Name)
		e.word(string(port.Protocol))
		e.signed(int64(port.Port))
		e.word(port.AppProtocol)
	}
	e.word(string(p.SessionAffinity))
	e.signed(int64(p.AffinityTimeout))
	e.word(string(p.InternalTrafficPolicy))
	e.word(p.TrafficDistribution)
	e.count(len(p.IPFamilies))
	for _, family := range p.IPFamilies {
		e.word(string(family))
	}
	e.strings(p.Labels)
	e.strings(p.Annotations)
}

func (e *encoder) endpoints(x clusterset.Endpoints) {
	e.count(len(x.Groups))
	for _, group := range x.Groups {
		e.count(len(group.Ports))
		for _, port := range group.Ports {
			e.word(port.Name.String())
			e.word(string(port.Protocol))
			e.number(uint64(port.Port))
		}
		e.count(len(group.Endpoints))
		for _, endpoint := range group.Endpoints {
			e.addr(endpoint.Addr)
			e.body = append(e.body, byte(endpoint.Conditions))
			e.word(endpoint.Node.String())
			e.word(endpoint.Zone.String())
			e.word(endpoint.Hostname.String())
		}
	}
}
