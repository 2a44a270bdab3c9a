package dns

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// ZoneFile is what Knot serves.
var ZoneFile = zoneFile

// Questions are the first n of the mix, as dnsperf reads them.
func Questions(n int) string { return text(mix(n)) }

// Send sends queries at a rate.
func Send(to netip.AddrPort, rate float64, period time.Duration) (sent, answered, refused int, err error) {
	queries, err := packed(mix(1000))
	if err != nil {
		return 0, 0, 0, err
	}
	o, err := send(context.Background(), load{To: to, Rate: rate, For: period}, queries)
	return o.Sent, o.Answered, o.Errors, err
}

// Watch asks a server for all services until it has answered for a while, and tells whether it did, how many answers were
// not right, and how many queries after the first answer got none.
func Watch(to netip.AddrPort) (first time.Duration, failed, lost int, err error) {
	conn, err := net.Dial("udp4", to.String())
	if err != nil {
		return 0, 0, 0, err
	}
	k := &knocker{conn: conn, right: true, all: services(), began: time.Now()}
	got, err := k.run(context.Background())
	return got.first, got.failed, got.lost, err
}

// AddressesOf returns the addresses of all services, by their names.
func AddressesOf() map[string][]netip.Addr {
	all := map[string][]netip.Addr{}
	for _, s := range services() {
		all[s.fqdn()] = s.addrs
	}
	return all
}
