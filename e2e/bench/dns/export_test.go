package dns

import (
	"context"
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
