package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// decoder reads a body. After the first error it reads nothing but zeros.
type decoder struct {
	rest  []byte
	words []string
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.rest = nil
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail("a number is cut short or too large")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail("a number is cut short or too large")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// count reads the length of a list whose elements have at least so many bytes each: a longer one than fits is a lie, and
// nothing is allocated for it.
func (d *decoder) count(least int) int {
	n := d.number()
	if n > uint64(len(d.rest)/least) { //nolint:gosec // G115: lengths are not negative
		d.fail("a list claims %d elements, and %d bytes are left", n, len(d.rest))
		return 0
	}
	return int(n) //nolint:gosec // G115: bounded above
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail("%d bytes are wanted, and %d are left", n, len(d.rest))
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) octet() byte {
	b := d.bytes(1)
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
		d.fail("a flag is %d", b)
		return false
	}
}

func (d *decoder) word() string {
	at := d.number()
	if d.err != nil {
		return ""
	}
	if at >= uint64(len(d.words)) {
		d.fail("word %d of %d is used", at, len(d.words))
		return ""
	}
	return d.words[at]
}

func (d *decoder) int32() int32 {
	n := d.signed()
	if n < math.MinInt32 || n > math.MaxInt32 {
		d.fail("%d is no 32-bit number", n)
		return 0
	}
	return int32(n)
}

func (d *decoder) key() clusterset.Key { return clusterset.Key{Namespace: d.word(), Name: d.word()} }

func (d *decoder) addr() netip.Addr {
	size := d.octet()
	if size != 0 && size != 4 && size != 16 {
		d.fail("an address has %d bytes", size)
	}
	addr, _ := netip.AddrFromSlice(d.bytes(int(size))) // without bytes: no address
	return addr
}

func (d *decoder) strings() map[string]string {
	n := d.count(2)
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
	for n := d.count(1); n > 0 && d.err == nil; n-- {
		d.words = append(d.words, string(d.bytes(d.count(1))))
	}
	for n := d.count(4); n > 0 && d.err == nil; n-- {
		key := d.key()
		known.Exports[key] = d.export()
	}
	for n := d.count(3); n > 0 && d.err == nil; n-- {
		key := d.key()
		known.Endpoints[key] = d.endpoints()
	}
	for n := d.count(3); n > 0 && d.err == nil; n-- {
		key := d.key()
		known.Imports[key] = list(d, 1, d.addr)
	}
	return known
}

// list reads a list whose elements have at least so many bytes each.
func list[T any](d *decoder, least int, read func() T) []T {
	n := d.count(least)
	if n == 0 {
		return nil
	}
	elements := make([]T, 0, min(n, 1024))
	for range n {
		if d.err != nil {
			return nil
		}
		elements = append(elements, read())
	}
	return elements
}

func (d *decoder) export() clusterset.Export {
	var x clusterset.Export
	if d.flag() {
		seconds, nanoseconds := d.signed(), d.number()
		if nanoseconds >= uint64(time.Second) {
			d.fail("a time has %d nanoseconds", nanoseconds)
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
	n := d.number()
	if n > math.MaxUint16 {
		d.fail("a port is %d", n)
		return port
	}
	port.Port = uint16(n)
	return port
}

func (d *decoder) endpoint() clusterset.Endpoint {
	return clusterset.Endpoint{
		Addr: d.addr(), Conditions: clusterset.Conditions(d.octet()),
		Node: clusterset.Intern(d.word()), Zone: clusterset.Intern(d.word()), Hostname: clusterset.Intern(d.word()),
	}
}
