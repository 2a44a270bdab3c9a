package dns

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/dns/forward"
	"github.com/hansa-dev/hansa/dns/sign"
	"github.com/hansa-dev/hansa/dns/transfer"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Snapshots hands out the newest snapshot and a channel that is closed when there is a newer one. One with the sequence 0
// says that nothing is known yet.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Options are what a Responder is made of. A zero field has the default beside it.
type Options struct {
	// Snapshots and Zone make the names. Instead of both, Static has them, the same for all.
	Snapshots Snapshots
	Zone      zone.Options
	Static    *zone.Tree

	Askers Askers
	// Views bounds the trees that are kept up to date: 64. When more askers come than that, the view that was not used for
	// longest makes room, and is made again for the next one who asks for it.
	Views int
	// Unused is for how long a view is kept up to date that nobody asks for: 10 min. The default asker's always is.
	Unused time.Duration

	Version  string // answers version.bind, at most MaxText octets; empty: REFUSED
	Hostname string // answers hostname.bind and NSID, at most MaxHostname octets; empty: REFUSED, and no NSID

	RateLimit RateLimit
	// CookieSecrets are shared by servers with the same address; the first makes cookies, all are good. Without any, the
	// server has a random one that it changes daily.
	CookieSecrets [][16]byte

	Forward *forward.Forwarder // for names in no zone of ours; nil: REFUSED
	// ForwardFor are the networks of those for whom names are forwarded; others are refused, so that the server is not of use to
	// strangers (RFC 5358). Empty: Private.
	ForwardFor []netip.Prefix

	Transfer *transfer.Server // to secondaries; nil: REFUSED
	Sign     *sign.Signer     // signs answers for those who want that; nil: nobody does

	Now func() time.Time // time.Now
	Log logr.Logger      // zero: none
}

// The longest texts of Options, in octets. MaxText is that of a string in a TXT (RFC 1035, 3.3.14); NSID is in any response
// that asks for it, which has to stay small.
const (
	MaxText     = 255
	MaxHostname = 128
)

// Private returns the networks that nobody outside can ask from: loopback, link-local and private ones (RFC 1918, RFC 4193, RFC
// 6598).
func Private() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{
		"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func (o Options) orDefault() Options {
	o.Views = cmp.Or(o.Views, 64)
	o.Unused = cmp.Or(o.Unused, 10*time.Minute)
	if len(o.ForwardFor) == 0 {
		o.ForwardFor = Private()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Askers says whose view a query is answered with, by where it comes from. The first that applies counts: the
// address that was asked, the longest of Sources, the longest of Regions, Default.
type Askers struct {
	// Listeners are by the local address. One without a port stands for all ports, one without an address is invalid.
	Listeners map[netip.AddrPort]zone.Asker
	Sources   map[netip.Prefix]zone.Asker
	// Regions are where askers outside of all clusters are. For names in zones of zone.Options.External, the network that
	// a resolver asks for (RFC 7871) counts instead of the resolver's own address.
	Regions map[netip.Prefix]string
	Default zone.Asker
}
