package transfer

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// secondary is one that is told of changes.
type secondary struct {
	Secondary

	// changed has room for one: it says that there is news, not what.
	changed chan struct{}
	mu      sync.Mutex
	zones   []*dns.SOA         // as they are now
	told    map[string]uint32  // by zone
	failed  map[string]failure // by zone
}

func newSecondary(to Secondary) *secondary {
	return &secondary{Secondary: to, changed: make(chan struct{}, 1), told: map[string]uint32{}, failed: map[string]failure{}}
}

// Secondaries returns those that are told of changes, in the order of the options.
func (s *Server) Secondaries() []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(s.secondaries))
	for _, to := range s.secondaries {
		addrs = append(addrs, to.Addr)
	}
	return addrs
}

// Announce says what the zones of a secondary, by its index, are now. Run tells the secondary. It does not block.
func (s *Server) Announce(index int, zones []*dns.SOA) {
	to := s.secondaries[index]
	to.mu.Lock()
	to.zones = zones
	to.mu.Unlock()
	select {
	case to.changed <- struct{}{}:
	default:
	}
}

// Run tells secondaries of changes until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, to := range s.secondaries {
		if to.Addr.IsValid() {
			wg.Go(func() { s.keepTelling(ctx, to) })
		}
	}
	wg.Wait()
}

// keepTelling tells one secondary at most once per Rest, of everything that changed meanwhile.
func (s *Server) keepTelling(ctx context.Context, to *secondary) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-to.changed:
		case <-retry.C:
		}
		retry.Reset(s.tell(ctx, to))
		if !pause(ctx, s.options.Rest) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failure is that a secondary did not confirm a zone, which does not hold up others.
type failure struct {
	serial uint32
	times  int
	until  time.Time // when it is tried again
}

const maxWait = time.Minute // between two attempts: that is when secondaries look by themselves

// tell sends a NOTIFY for each zone whose serial the secondary did not confirm yet, and returns when to try again those that
// failed.
func (s *Server) tell(ctx context.Context, to *secondary) time.Duration {
	to.mu.Lock()
	zones := to.zones
	to.mu.Unlock()
	next := maxWait
	for _, soa := range zones {
		name := soa.Hdr.Name
		failed := to.failed[name]
		if serial, ok := to.told[name]; ok && serial == soa.Serial || failed.times >= s.options.Attempts && failed.serial == soa.Serial {
			continue
		}
		if wait := time.Until(failed.until); wait > 0 {
			next = min(next, wait)
			continue
		}
		err := s.notify(ctx, to, soa)
		if err == nil {
			to.told[name] = soa.Serial
			delete(to.failed, name)
			continue
		}
		wait := min(s.options.Rest<<min(failed.times, 8), maxWait)
		to.failed[name] = failure{soa.Serial, failed.times + 1, time.Now().Add(wait)}
		next = min(next, wait)
		s.options.Log.V(1).Info("A secondary name server was not told of a change.",
			"secondary", to.Addr.String(), "zone", name, "attempt", failed.times+1, "err", err.Error())
	}
	return next
}

func (s *Server) notify(ctx context.Context, to *secondary, soa *dns.SOA) error {
	m := new(dns.Msg)
	m.SetNotify(soa.Hdr.Name)
	m.Answer = []dns.RR{soa}
	m.SetTsig(to.Key, dns.HmacSHA256, 300, time.Now().Unix())
	client := &dns.Client{Timeout: s.options.Timeout, TsigSecret: map[string]string{to.Key: s.secrets[to.Key]}}
	answer, _, err := client.ExchangeContext(ctx, m, to.Addr.String())
	if err != nil {
		return fmt.Errorf("telling secondary %s of zone %s: %w", to.Addr, soa.Hdr.Name, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("secondary %s answers %s to a NOTIFY of zone %s: configure it for this zone and key %q",
			to.Addr, dns.RcodeToString[answer.Rcode], soa.Hdr.Name, to.Key)
	}
	return nil
}
