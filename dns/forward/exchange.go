package forward

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what is asked of upstreams over UDP: what no path breaks into fragments.
const udpSize = 1232

// exchanger sends a query to a server and returns what that answers.
type exchanger interface {
	exchange(ctx context.Context, query *dns.Msg, server netip.AddrPort) (*dns.Msg, error)
}

// network exchanges over UDP, from a random port each time, and over TCP what does not fit. Each has the timeout.
type network struct{ timeout time.Duration }

func (n network) exchange(ctx context.Context, query *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	answer, err := n.over(ctx, "udp", query, server)
	if err != nil || !answer.Truncated {
		return answer, err
	}
	return n.over(ctx, "tcp", query, server)
}

func (n network) over(ctx context.Context, transport string, query *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	client := &dns.Client{Net: transport, Timeout: n.timeout, UDPSize: udpSize}
	answer, _, err := client.ExchangeContext(ctx, query, server.String())
	if err != nil {
		return nil, fmt.Errorf("over %s: %w", transport, err)
	}
	return answer, nil
}
