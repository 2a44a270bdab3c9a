package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	miekg "github.com/miekg/dns"
)

// peeker asks a server for addresses.
type peeker struct {
	*miekg.Conn
}

func newPeeker(ctx context.Context, to netip.AddrPort) (*peeker, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp4", to.String())
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", to, err)
	}
	return &peeker{&miekg.Conn{Conn: conn, UDPSize: 1232}}, nil
}

// look returns the addresses of a name.
func (p *peeker) look(name string) ([]string, error) {
	query := new(miekg.Msg).SetQuestion(name, miekg.TypeA)
	if err := p.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return nil, err
	}
	if err := p.WriteMsg(query); err != nil {
		return nil, err
	}
	for {
		reply, err := p.ReadMsg()
		if err != nil {
			return nil, err
		}
		if reply.Id != query.Id {
			continue // to one that was given up
		}
		var found []string
		for _, rr := range reply.Answer {
			if a, ok := rr.(*miekg.A); ok {
				found = append(found, a.A.String())
			}
		}
		return found, nil
	}
}

// await asks until a name has an address, and returns when it had.
func (p *peeker) await(ctx context.Context, name, address string) (time.Time, error) {
	for {
		found, err := p.look(name)
		if err != nil {
			return time.Time{}, fmt.Errorf("asking for %s: %w", name, err)
		}
		now := time.Now()
		if slices.Contains(found, address) {
			return now, nil
		}
		if err := pause(ctx, peek); err != nil {
			return time.Time{}, fmt.Errorf("%s did not become an address of %s, which has %v: %w", address, name, found, err)
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until tries until it works. The last error says why it did not.
func until(ctx context.Context, patience time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if pause(ctx, breather) != nil {
			return fmt.Errorf("not within %s: %w", patience, err)
		}
	}
}
