package load

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// Wait asks a target until it answers successfully, or ctx ends, and returns who answered. A target may also be
// HOST:PORT: then it is enough that the port accepts a connection. The error names the last failure.
func Wait(ctx context.Context, client Client, target string, interval time.Duration) (string, error) {
	client.NewConnections = true
	p, err := client.waiter(target)
	if err != nil {
		return "", err
	}
	defer p.close()
	ticker := time.NewTicker(max(interval, time.Millisecond))
	defer ticker.Stop()
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, client.Timeout)
		who, err := p.probe(attempt)
		cancel()
		if err == nil {
			return who, nil
		}
		if last == nil || ctx.Err() == nil { // an attempt that was cut short by ctx says nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not answer; the last attempt failed: %w", target, last)
		case <-ticker.C:
		}
	}
}

func (c Client) waiter(target string) (prober, error) {
	if strings.Contains(target, "://") {
		return c.prober(target)
	}
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, fmt.Errorf("target %q: want a URL or HOST:PORT", target)
	}
	return portProber{dialer: c.dialer(), address: target}, nil
}

// portProber connects and does nothing else.
type portProber struct {
	dialer  *net.Dialer
	address string
}

func (p portProber) probe(ctx context.Context) (string, error) {
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return "", err
	}
	return "", conn.Close()
}

func (p portProber) close() {}
