package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/dns/zone"
)

// maxTTL is the greatest TTL (RFC 2181, section 8).
const maxTTL = 1<<31 - 1

// Options returns what the flags say.
func (z *Zones) Options() (zone.Options, error) {
	if z.TTL == 0 || z.TTL > maxTTL {
		return zone.Options{}, wrong(z.prefix+"ttl", strconv.FormatUint(uint64(z.TTL), 10), fmt.Errorf("want 1 to %d seconds", maxTTL))
	}
	o := zone.Options{TTL: z.TTL, ClusterSet: z.ClusterSet, PerCluster: z.PerCluster}
	names := claims{}
	if err := names.take(z.prefix+"zone", z.ClusterSet, z.ClusterSet); err != nil {
		return o, err
	}
	if z.PerCluster != "" {
		if err := names.take(z.prefix+"per-cluster-zone", z.PerCluster, z.PerCluster); err != nil {
			return o, err
		}
	}
	for _, name := range z.External {
		if err := names.take(z.prefix+"external-zone", name, name); err != nil {
			return o, err
		}
		o.External = append(o.External, zone.External{Zone: name})
	}
	for _, written := range z.KubeFed {
		federation, domain, ok := strings.Cut(written, "=")
		if !ok || len(validation.IsDNS1123Label(federation)) > 0 {
			return o, wrong(z.prefix+"kubefed-zone", written, errors.New("want FEDERATION=DOMAIN, where the federation is one label"))
		}
		if err := names.take(z.prefix+"kubefed-zone", written, domain); err != nil {
			return o, err
		}
		o.KubeFed = append(o.KubeFed, zone.KubeFed{Zone: domain, Federation: federation})
	}
	var err error
	o.Nameservers, err = z.nameservers()
	return o, err
}

// claims are the flags that name zones, by the zone in wire form.
type claims map[string]string

func (c claims) take(flag, written, name string) error {
	wire, err := zone.Wire(name)
	switch {
	case err != nil:
		return wrong(flag, written, err)
	case len(wire) == 1:
		return wrong(flag, written, errors.New("want the name of a zone below the root"))
	case c[string(wire)] != "":
		return wrong(flag, written, fmt.Errorf("--%s has this zone already; each needs one of its own", c[string(wire)]))
	}
	c[string(wire)] = flag
	return nil
}

// nameservers puts the addresses of each name together, in the order in which the names came.
func (z *Zones) nameservers() ([]zone.Nameserver, error) {
	var servers []zone.Nameserver
	for _, written := range z.Nameservers {
		name, ip, ok := strings.Cut(written, "=")
		addr, err := netip.ParseAddr(ip)
		if wire, bad := zone.Wire(name); !ok || err != nil || bad != nil || len(wire) == 1 {
			return nil, wrong(z.prefix+"nameserver", written, errors.New("want NAME=IP"))
		}
		i := slices.IndexFunc(servers, func(s zone.Nameserver) bool { return strings.EqualFold(s.Name, name) })
		if i < 0 {
			i = len(servers)
			servers = append(servers, zone.Nameserver{Name: name})
		}
		servers[i].Addrs = append(servers[i].Addrs, addr.Unmap())
	}
	return servers, nil
}

// wrong is an error about the value of a flag.
func wrong(flag, value string, err error) error {
	return fmt.Errorf("--%s %q: %w", flag, value, err)
}
