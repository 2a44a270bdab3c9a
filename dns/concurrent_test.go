package dns_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestManyAtOnce has many ask in many views while the world changes, views come and go, and somebody looks.
func TestManyAtOnce(t *testing.T) {
	b := vips(6)
	latest := clusterset.NewLatest(b.Publish())
	sources := map[netip.Prefix]zone.Asker{}
	for i := range 6 {
		sources[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)] = zone.Asker{Cluster: fmt.Sprintf("m%d", i+1)}
	}
	r := responder(t, withSecondary(t, netip.AddrPort{}), signing(t), func(o *dns.Options) {
		o.Snapshots, o.Views, o.Unused, o.Askers.Sources = latest, 4, 4*time.Millisecond, sources
		o.Now = time.Now
		o.RateLimit = dns.RateLimit{PerSecond: 1e6}
	})
	events, stop, _ := r.Tap().Subscribe(2, 100)
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	for i := range 6 {
		wg.Go(func() {
			from := listen.Source{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 1, 1}), 4242), Local: udp.Local}
			dst := make([]byte, 0, 4096)
			for ctx.Err() == nil {
				for _, m := range []*miekg.Msg{question("web.shop.svc."+apex, miekg.TypeA), wanting("nobody."+apex, miekg.TypeA), question(apex, miekg.TypeANY)} {
					if out := r.Respond(dst, pack(t, m), from); len(out) == 0 {
						t.Error("no response")
					}
				}
			}
		})
	}
	for round := range 30 {
		b.SetImport("m1", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 2, byte(round)})}})
		snapshot := b.Publish()
		latest.Publish(snapshot)
		until(t, func() bool { return r.Sequence() == snapshot.Sequence() })
		gather(t, r.Collector())
		r.SetStale(round%2 == 0)
	}
	cancel()
	wg.Wait()
	if len(events) == 0 {
		t.Error("the tap saw nothing")
	}
}
