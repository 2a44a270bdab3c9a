package endpoints

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/dns/zone"
)

// Record is what a name has of one type: an entry of a DNSEndpoint.
type Record struct {
	// Name has no final dot; external-dns wants none.
	Name string
	// Type is A or AAAA.
	Type string
	// TTL is in seconds.
	TTL int64
	// Targets are addresses, sorted.
	Targets []string
}

// families are the types that are published.
var families = []uint16{dns.TypeA, dns.TypeAAAA}

// recordsAt returns what a tree has at a name, which is given without the final dot.
func recordsAt(tree *zone.Tree, name string) []Record {
	wire, err := zone.Wire(name)
	if err != nil {
		return nil // longer than a name can be
	}
	match := tree.Find(wire)
	if match.Kind != zone.Exists {
		return nil
	}
	var records []Record
	for _, family := range families {
		set := match.Node.RRset(family)
		if set == nil || set.Len() == 0 {
			continue
		}
		records = append(records, Record{Name: name, Type: dns.TypeToString[family], TTL: int64(set.TTL()), Targets: targets(set)})
	}
	return records
}

// targets returns the addresses of a set in order, whatever order the weights gave them.
func targets(set *zone.RRset) []string {
	addrs := make([]netip.Addr, 0, set.Len())
	for _, rr := range set.RRs(".") {
		var ip []byte
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA.To16()
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr)
		}
	}
	return texts(addrs)
}

func texts(addrs []netip.Addr) []string {
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}

// with returns the record with one more address.
func (r Record) with(addr netip.Addr) Record {
	addrs := []netip.Addr{addr}
	for _, target := range r.Targets {
		if have, err := netip.ParseAddr(target); err == nil {
			addrs = append(addrs, have)
		}
	}
	r.Targets = texts(addrs)
	return r
}

// entriesOf returns the entries of a DNSEndpoint, as far as they are objects.
func entriesOf(object *unstructured.Unstructured) []map[string]any {
	spec, _ := object.Object["spec"].(map[string]any)
	list, _ := spec["endpoints"].([]any)
	var entries []map[string]any
	for _, each := range list {
		if entry, ok := each.(map[string]any); ok {
			entries = append(entries, entry)
		}
	}
	return entries
}

// recordOf reads an entry. Targets that are no addresses are left out.
func recordOf(entry map[string]any) Record {
	var r Record
	r.Name, _ = entry["dnsName"].(string)
	r.Type, _ = entry["recordType"].(string)
	r.TTL, _ = entry["recordTTL"].(int64)
	list, _ := entry["targets"].([]any)
	var addrs []netip.Addr
	for _, each := range list {
		text, _ := each.(string)
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() == (r.Type == "A") {
			addrs = append(addrs, addr)
		}
	}
	r.Name, r.Targets = strings.ToLower(r.Name), texts(addrs)
	return r
}

// entry writes a record over what an entry said before, nil for none.
func (r Record) entry(before map[string]any) map[string]any {
	entry := maps.Clone(before)
	if entry == nil {
		entry = map[string]any{}
	}
	list := make([]any, len(r.Targets))
	for i, target := range r.Targets {
		list[i] = target
	}
	entry["dnsName"], entry["recordType"], entry["recordTTL"], entry["targets"] = r.Name, r.Type, r.TTL, list
	return entry
}
