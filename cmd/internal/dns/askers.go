package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/zone"
)

// askers returns whose view who gets.
func (f *Flags) askers() (dns.Askers, error) {
	a := dns.Askers{
		Listeners: map[netip.AddrPort]zone.Asker{}, Sources: map[netip.Prefix]zone.Asker{}, Regions: map[netip.Prefix]string{},
	}
	if f.Cluster != "" {
		asker, err := parseAsker(f.Cluster)
		if err != nil {
			return a, wrong(f.prefix+"cluster", f.Cluster, err)
		}
		a.Default = asker
	}
	err := each(f.prefix+"listener", f.Listeners, func(where, who string) error {
		at, err := f.local(where)
		if err != nil {
			return err
		}
		return put(a.Listeners, at, who, parseAsker)
	})
	if err != nil {
		return a, err
	}
	err = each(f.prefix+"source", f.Sources, func(where, who string) error {
		prefix, err := parsePrefix(where)
		if err != nil {
			return err
		}
		return put(a.Sources, prefix, who, parseAsker)
	})
	if err != nil {
		return a, err
	}
	return a, each(f.prefix+"region", f.Regions, func(where, who string) error {
		prefix, err := parsePrefix(where)
		if err != nil {
			return err
		}
		return put(a.Regions, prefix, who, parseRegion)
	})
}

// each takes values of the form A=B apart.
func each(flag string, values []string, take func(left, right string) error) error {
	for _, written := range values {
		left, right, ok := strings.Cut(written, "=")
		err := errors.New("want two parts with = between them")
		if ok {
			err = take(left, right)
		}
		if err != nil {
			return wrong(flag, written, err)
		}
	}
	return nil
}

// put puts what text says into a table, at a place that is still free.
func put[K comparable, V any](table map[K]V, key K, text string, parse func(string) (V, error)) error {
	if _, taken := table[key]; taken {
		return fmt.Errorf("%v is given twice", key)
	}
	value, err := parse(text)
	if err == nil {
		table[key] = value
	}
	return err
}

// parseAsker reads CLUSTER[/ZONE].
func parseAsker(text string) (zone.Asker, error) {
	id, availability, zoned := strings.Cut(text, "/")
	if problems := validation.IsDNS1123Label(id); len(problems) > 0 {
		return zone.Asker{}, fmt.Errorf("%q is no id of a cluster: want CLUSTER or CLUSTER/ZONE, and an id is a DNS label", id)
	}
	if zoned && (availability == "" || len(validation.IsValidLabelValue(availability)) > 0) {
		return zone.Asker{}, fmt.Errorf("%q is no zone as the labels of nodes say it", availability)
	}
	return zone.Asker{Cluster: id, Zone: availability}, nil
}

func parseRegion(text string) (string, error) {
	if text == "" || len(validation.IsValidLabelValue(text)) > 0 {
		return "", fmt.Errorf("%q is no region as the labels of nodes say it", text)
	}
	return text, nil
}

// parsePrefix reads a network, or an address as the network of one.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no network: want IP or IP/BITS", text)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits behind its length: %s is meant, or another length", prefix, prefix.Masked())
	}
	return prefix, nil
}

// local reads an address of ours, IP or IP:PORT, that there is a socket for.
func (f *Flags) local(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return at, fmt.Errorf("%q is no address: want IP or IP:PORT", text)
		}
		at = netip.AddrPortFrom(addr, 0)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()) // as package listen has them
	if at.Addr().IsUnspecified() {
		return at, fmt.Errorf("%s is no address that can be asked: want that of one interface", at.Addr())
	}
	for _, list := range [][]string{f.Addrs, f.TLSAddrs, f.HTTPSAddrs} {
		for _, socket := range list {
			if covers(socket, at) {
				return at, nil
			}
		}
	}
	return at, fmt.Errorf("nothing listens at %s: add it to --%saddr", text, f.prefix)
}

// covers tells whether a socket, IP:PORT or :PORT, takes what is sent to an address. Port 0 stands for any.
func covers(socket string, at netip.AddrPort) bool {
	if strings.HasPrefix(socket, ":") {
		socket = "0.0.0.0" + socket
	}
	bound, err := netip.ParseAddrPort(socket)
	if err != nil {
		return false // package listen says what is wrong with it
	}
	if bound.Port() != 0 && at.Port() != 0 && bound.Port() != at.Port() {
		return false
	}
	return bound.Addr().IsUnspecified() || bound.Addr().Unmap() == at.Addr()
}
