package dns_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestSecondaryOfARestartedServer follows a server that is started again: its serial numbers do not go back, and what changed
// since comes.
func TestSecondaryOfARestartedServer(t *testing.T) {
	web := clusterset.Key{Namespace: "shop", Name: "web"}
	b := vips(2)
	change := func(last byte) *clusterset.Snapshot {
		b.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 7, last})}})
		return b.PublishAs(clusterset.NextSequence(b.Current().Sequence(), time.Time{}))
	}
	latest := clusterset.NewLatest(change(0))
	r := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = latest })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	for i := range byte(100) {
		latest.Publish(change(i + 1))
		until(t, func() bool { return vip(t, r, udp) == netip.AddrFrom4([4]byte{10, 96, 7, i + 1}).String() })
	}
	records, _ := transferred(t, r, axfr(apex))
	held := records[0].(*miekg.SOA).Serial
	cancel()
	<-done

	again := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = latest })
	query := new(miekg.Msg)
	if got, _ := transferred(t, again, query.SetIxfr(apex, held, "ns.", "host.")); got[0].(*miekg.SOA).Serial != held || len(got) != 1 {
		t.Errorf("nothing has changed: the serial is %d and was %d, and %d records come", got[0].(*miekg.SOA).Serial, held, len(got))
	}
	again = responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = clusterset.NewLatest(change(200)) })
	got, _ := transferred(t, again, query.SetIxfr(apex, held, "ns.", "host."))
	if serial := got[0].(*miekg.SOA).Serial; int32(serial-held) <= 0 || len(got) < 100 {
		t.Errorf("what changed while the server was away does not come: the serial is %d and was %d, and %d records come", serial, held, len(got))
	}
}

// TestSecondaryOfTwoServers has a secondary that got a serial number from another server, with other records. It gets all of the
// zone: a difference would be one to something else.
func TestSecondaryOfTwoServers(t *testing.T) {
	b := vips(2)
	web := clusterset.Key{Namespace: "shop", Name: "web"}
	latest := clusterset.NewLatest(b.Publish())
	r := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Snapshots = latest })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	serial := func() uint32 { return ask(t, r, question(apex, miekg.TypeSOA), udp).Answer[0].(*miekg.SOA).Serial }
	change := func(last byte) {
		b.SetImport("m1", web, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 7, last})}})
		latest.Publish(b.PublishAs(clusterset.NextSequence(b.Current().Sequence(), time.Time{})))
		until(t, func() bool { return vip(t, r, udp) == netip.AddrFrom4([4]byte{10, 96, 7, last}).String() })
	}
	change(1)
	elsewhere := serial() // as another server has it, too
	change(2)
	query := new(miekg.Msg)
	got, _ := transferred(t, r, query.SetIxfr(apex, elsewhere, "ns.", "host."))
	if _, difference := got[1].(*miekg.SOA); difference || len(got) < 100 {
		t.Errorf("it gets a difference to what it does not have: %d records", len(got))
	}
	here := serial()
	change(3)
	got, _ = transferred(t, r, query.SetIxfr(apex, here, "ns.", "host."))
	if soa, difference := got[1].(*miekg.SOA); !difference || soa.Serial != here {
		t.Errorf("it gets no difference to what it has from here: %d records", len(got))
	}
}

// TestAXFRHasCuts transfers a zone with another one inside.
func TestAXFRHasCuts(t *testing.T) {
	r := responder(t, withSecondary(t, netip.AddrPort{}), func(o *dns.Options) { o.Static, o.Snapshots = nested(t, ""), nil })
	got, _ := transferred(t, r, axfr("par.test."))
	var lines []string
	for _, rr := range got[1 : len(got)-1] {
		lines = append(lines, rr.Header().Name+" "+miekg.TypeToString[rr.Header().Rrtype])
	}
	want := []string{"par.test. NS", "child.par.test. NS", "ns.child.par.test. A", "ns.par.test. A"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}
