// Package dns puts a DNS server together from flags: the zones, the views of askers, upstreams, secondaries, certificates and
// sockets. Agents run one that the hub feeds, and the hub may run one itself.
package dns

import (
	"github.com/spf13/pflag"

	"github.com/hansa-dev/hansa/dns/zone"
)

// Zones are the flags that say which zones there are.
type Zones struct {
	ClusterSet  string
	Nameservers []string // NAME=IP
	TTL         uint32
	External    []string
	KubeFed     []string // FEDERATION=DOMAIN
	PerCluster  string

	prefix string
}

// Flags are those of a DNS server.
type Flags struct {
	Zones

	Addrs, TLSAddrs, HTTPSAddrs []string
	CertFile, KeyFile           string

	Cluster   string   // CLUSTER[/ZONE]
	Listeners []string // ADDR=CLUSTER[/ZONE]
	Sources   []string // CIDR=CLUSTER[/ZONE]
	Regions   []string // CIDR=REGION

	Upstreams     []string
	UpstreamFor   []string // CIDR
	RateLimit     int
	NSID          string
	ChaosVersion  string
	Secondaries   []string // KEY[=IP[:PORT]]
	TSIGFile      string
	DNSSECKeyFile string
}

// Add registers the flags, each with a prefix to its name.
func (z *Zones) Add(flags *pflag.FlagSet, prefix string) {
	z.prefix = prefix
	flags.StringVar(&z.ClusterSet, prefix+"zone", zone.DefaultClusterSet, "The zone of global names, SERVICE.NAMESPACE.svc.ZONE.")
	flags.StringSliceVar(&z.Nameservers, prefix+"nameserver", nil, "NAME=IP of a server of the zones, as NS records say it. Default: ns.dns.ZONE, without an address.")
	flags.Uint32Var(&z.TTL, prefix+"ttl", zone.DefaultTTL, "For how many seconds answers may be kept, unless the ServicePolicy of a service says it.")
	flags.StringSliceVar(&z.External, prefix+"external-zone", nil, "A zone of your own for those outside of all clusters: SERVICE.NAMESPACE.ZONE are addresses of gateways.")
	flags.StringSliceVar(&z.KubeFed, prefix+"kubefed-zone", nil, "FEDERATION=DOMAIN: names as KubeFed gave them, SERVICE.NAMESPACE.FEDERATION.svc[.ZONE[.REGION]].DOMAIN.")
	flags.StringVar(&z.PerCluster, prefix+"per-cluster-zone", "", "A zone for what single clusters serve: SERVICE.NAMESPACE.CLUSTER.ZONE.")
}

// Add registers the flags, each with a prefix to its name. Lists may be given with commas, or by repeating the flag.
// addr is the default of the address to listen on.
func (f *Flags) Add(flags *pflag.FlagSet, prefix string, addr ...string) {
	f.Zones.Add(flags, prefix)
	usage := "IP:PORT or :PORT to answer at over UDP and TCP."
	if len(addr) == 0 {
		usage += " Without an address there is no DNS server."
	}
	flags.StringSliceVar(&f.Addrs, prefix+"addr", addr, usage)
	flags.StringSliceVar(&f.TLSAddrs, prefix+"tls-addr", nil, "IP:PORT to answer at over TLS (RFC 7858), usually port 853. Needs a certificate.")
	flags.StringSliceVar(&f.HTTPSAddrs, prefix+"https-addr", nil, "IP:PORT to answer at over HTTPS (RFC 8484), at the path /dns-query. Needs a certificate.")
	flags.StringVar(&f.CertFile, prefix+"tls-cert-file", "", "The certificate for TLS and HTTPS in PEM. It is read again when it changes.")
	flags.StringVar(&f.KeyFile, prefix+"tls-key-file", "", "The private key for TLS and HTTPS in PEM. It is read again when it changes.")

	flags.StringVar(&f.Cluster, prefix+"cluster", "", "CLUSTER[/ZONE] of those who ask, by its id, unless another flag says otherwise. Default: outside of all clusters.")
	flags.StringSliceVar(&f.Listeners, prefix+"listener", nil, "ADDR=CLUSTER[/ZONE]: who asks at this IP or IP:PORT of ours is in that cluster.")
	flags.StringSliceVar(&f.Sources, prefix+"source", nil, "CIDR=CLUSTER[/ZONE]: who asks from there is in that cluster. The longest counts.")
	flags.StringSliceVar(&f.Regions, prefix+"region", nil, "CIDR=REGION: who asks from there is outside of all clusters, in that region. The longest counts.")

	flags.StringSliceVar(&f.Upstreams, prefix+"upstream", nil, "IP[:PORT] of a resolver to ask for names in no zone of ours. Default: they are refused.")
	flags.StringSliceVar(&f.UpstreamFor, prefix+"upstream-for", nil, "CIDR of those for whom --"+prefix+"upstream is asked; others are refused. Default: loopback, link-local and private networks, and those of --"+prefix+"source.")
	flags.IntVar(&f.RateLimit, prefix+"rate-limit", 0, "Responses per second to one network (/24, /56) over UDP, at most 1000000. 0, the default, sets no limit.")
	flags.StringVar(&f.NSID, prefix+"nsid", "", "What the server calls itself, in NSID (RFC 5001) and hostname.bind, in at most 128 octets. Default: nothing.")
	flags.StringVar(&f.ChaosVersion, prefix+"chaos-version", "", "What version.bind says, in at most 255 octets. Default: nothing.")
	flags.StringSliceVar(&f.Secondaries, prefix+"secondary", nil, "KEY[=IP[:PORT]]: who has this TSIG key may copy the zones, and is told of changes at the address.")
	flags.StringVar(&f.TSIGFile, prefix+"tsig-file", "", "The keys of secondaries, as tsig-keygen writes them.")
	flags.StringVar(&f.DNSSECKeyFile, prefix+"dnssec-key-file", "", "A P-256 private key in PEM to sign answers with (DNSSEC). Default: they are not signed.")
}

// On tells whether there is an address to answer at.
func (f *Flags) On() bool { return len(f.Addrs)+len(f.TLSAddrs)+len(f.HTTPSAddrs) > 0 }

// Viewed tells whether flags say something about askers, or about zones that snapshots make, and which is the first of them
// that does: zone files say the same to everybody.
func (f *Flags) Viewed() (flag string, ok bool) {
	for _, each := range []struct {
		name string
		set  bool
	}{
		{"cluster", f.Cluster != ""},
		{"listener", len(f.Listeners) > 0},
		{"source", len(f.Sources) > 0},
		{"region", len(f.Regions) > 0},
		{"nameserver", len(f.Nameservers) > 0},
		{"external-zone", len(f.External) > 0},
		{"kubefed-zone", len(f.KubeFed) > 0},
		{"per-cluster-zone", f.PerCluster != ""},
		{"zone", f.ClusterSet != zone.DefaultClusterSet},
		{"ttl", f.TTL != zone.DefaultTTL},
	} {
		if each.set {
			return f.prefix + each.name, true
		}
	}
	return "", false
}
