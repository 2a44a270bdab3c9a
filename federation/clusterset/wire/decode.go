package wire

import (
	"math"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/clusterset/wire/cursor"
)

// decoder reads a body.
type decoder struct {
	cursor.Cursor

	version byte
	words   []string
}

func (d *decoder) octet() byte {
	b := d.Bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) flag() bool {
	switch b := d.octet(); b {
	case 0:
		return false
	case 1:
		return true
	default:
		d.Fail("a flag is %d", b)
		return false
	}
}

func (d *decoder) word() string {
	at := d.Number()
	if d.Err() != nil {
		return ""
	}
	if at >= uint64(len(d.words)) {
		d.Fail("word %d of %d is used", at, len(d.words))
		return ""
	}
	return d.words[at]
}

func (d *decoder) int32() int32 {
	n := d.Signed()
	if n < math.MinInt32 || n > math.MaxInt32 {
		d.Fail("%d is no 32-bit number", n)
		return 0
	}
	return int32(n)
}

func (d *decoder) key() clusterset.Key { return clusterset.Key{Namespace: d.word(), Name: d.word()} }

func (d *decoder) addr() netip.Addr {
	size := d.octet()
	if size != 0 && size != 4 && size != 16 {
		d.Fail("an address has %d bytes", size)
	}
	addr, _ := netip.AddrFromSlice(d.Bytes(int(size))) // without bytes: no address
	return addr
}

func (d *decoder) strings() map[string]string {
	n := d.Count(2)
	if n == 0 {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		key := d.word()
		m[key] = d.word()
	}
	return m
}

func (d *decoder) known() clusterset.Known {
	known := empty()
	for n := d.Count(1); n > 0 && d.Err() == nil; n-- {
		d.words = append(d.words, string(d.Bytes(d.Count(1))))
	}
	for n := d.Count(4); n > 0 && d.Err() == nil; n-- {
		key := d.key()
		known.Exports[key] = d.export()
	}
	for n := d.Count(3); n > 0 && d.Err() == nil; n-- {
		key := d.key()
		known.Endpoints[key] = d.endpoints()
	}
	for n := d.Count(3); n > 0 && d.Err() == nil; n-- {
		key := d.key()
		known.Imports[key] = d.derived()
	}
	return known
}

// derived reads an import. Before version 2 it had addresses only.
func (d *decoder) derived() clusterset.Import {
	i := clusterset.Import{ClusterIPs: list(d, 1, d.addr)}
	if d.version >= 2 {
		i.GatewayPorts = list(d, 3, func() clusterset.GatewayPort {
			return clusterset.GatewayPort{Name: d.word(), Protocol: corev1.Protocol(d.word()), Port: d.port()}
		})
	}
	return i
}

// list reads a list whose elements have at least so many bytes each.
func list[T any](d *decoder, least int, read func() T) []T {
	n := d.Count(least)
	if n == 0 {
		return nil
	}
	elements := make([]T, 0, min(n, 1024))
	for range n {
		if d.Err() != nil {
			return nil
		}
		elements = append(elements, read())
	}
	return elements
}

func (d *decoder) export() clusterset.Export {
	var x clusterset.Export
	if d.flag() {
		seconds, nanoseconds := d.Signed(), d.Number()
		if nanoseconds >= uint64(time.Second) {
			d.Fail("a time has %d nanoseconds", nanoseconds)
		}
		x.Created = time.Unix(seconds, int64(nanoseconds%uint64(time.Second))).UTC()
	}
	if !d.flag() {
		return x
	}
	x.Properties = &clusterset.Properties{
		Type: corev1.ServiceType(d.word()), Headless: d.flag(),
		Ports: list(d, 4, func() clusterset.Port {
			return clusterset.Port{Name: d.word(), Protocol: corev1.Protocol(d.word()), Port: d.int32(), AppProtocol: d.word()}
		}),
		SessionAffinity: corev1.ServiceAffinity(d.word()), AffinityTimeout: d.int32(),
		InternalTrafficPolicy: corev1.ServiceInternalTrafficPolicy(d.word()), TrafficDistribution: d.word(),
		IPFamilies: list(d, 1, func() corev1.IPFamily { return corev1.IPFamily(d.word()) }),
		Labels:     d.strings(), Annotations: d.strings(),
	}
	return x
}

func (d *decoder) endpoints() clusterset.Endpoints {
	return clusterset.Endpoints{Groups: list(d, 2, func() clusterset.Group {
		return clusterset.Group{Ports: list(d, 3, d.targetPort), Endpoints: list(d, 5, d.endpoint)}
	})}
}

func (d *decoder) targetPort() clusterset.TargetPort {
	port := clusterset.TargetPort{Name: clusterset.Intern(d.word()), Protocol: corev1.Protocol(d.word())}
	port.Port = d.port()
	return port
}

func (d *decoder) port() uint16 {
	n := d.Number()
	if n > math.MaxUint16 {
		d.Fail("a port is %d", n)
		return 0
	}
	return uint16(n)
}

func (d *decoder) endpoint() clusterset.Endpoint {
	return clusterset.Endpoint{
		Addr: d.addr(), Conditions: clusterset.Conditions(d.octet()),
		Node: clusterset.Intern(d.word()), Zone: clusterset.Intern(d.word()), Hostname: clusterset.Intern(d.word()),
	}
}
