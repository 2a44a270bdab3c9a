package transfer

import (
	"context"
	"errors"
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
	zones   []*dns.SOA // as they are now
	told    map[string]uint32
}

func newSecondary(to Secondary) *secondary {
	return &secondary{Secondary: to, changed: make(chan struct{}, 1), told: map[string]uint32{}}
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-to.changed:
		}
		for attempt := range s.options.Attempts {
			err := s.tell(ctx, to)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			s.options.Log.V(1).Info("A secondary name server was not told of a change.",
				"secondary", to.Addr.String(), "attempt", attempt+1, "err", err.Error())
			if !pause(ctx, s.options.Rest<<attempt) {
				return
			}
		}
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

// tell sends a NOTIFY for each zone whose serial the secondary did not confirm yet.
func (s *Server) tell(ctx context.Context, to *secondary) error {
	to.mu.Lock()
	zones := to.zones
	to.mu.Unlock()
	var failed []error
	for _, soa := range zones {
		name := soa.Hdr.Name
		if serial, ok := to.told[name]; ok && serial == soa.Serial {
			continue
		}
		if err := s.notify(ctx, to, soa); err != nil {
			failed = append(failed, err)
			continue
		}
		to.told[name] = soa.Serial
	}
	return errors.Join(failed...)
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
