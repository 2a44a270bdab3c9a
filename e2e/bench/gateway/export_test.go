package gateway

import (
	"context"
	"net/netip"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// Kinds are what clients do with connections, all but those that are held.
func Kinds() []string { return []string{string(plain), string(secure), string(bulk)} }

// Load has clients make connections through a gateway to endpoints, of which it gets the addresses, and returns how many
// did what they should, and the octets that came back.
func Load(ctx context.Context, name string, count int, octets int64, through func(plain, secure []netip.AddrPort) netip.AddrPort) (int, int64, error) {
	l := &load{}
	var err error
	if l.hello, err = clientHello(ctx); err != nil {
		return 0, 0, err
	}
	o, err := l.do(ctx, job{Kind: begin})
	if err != nil {
		return 0, 0, err
	}
	to := through(o.Endpoints.Plain, o.Endpoints.TLS)
	o, err = l.do(ctx, job{Kind: kindOf(name), To: to, Count: count, Parallel: 4, Octets: octets})
	return o.Done, o.Octets, err
}

func kindOf(s string) kind { return kind(s) }

// Router sends connections to the endpoints of the two services.
func Router(plain, secure []netip.AddrPort) gateway.Router {
	pools := map[string]*gateway.Pool{plainService: gateway.NewPool(plain, nil), tlsService: gateway.NewPool(secure, nil)}
	return gateway.RouterFunc(func(t hello.Target, _ netip.Addr) gateway.Decision {
		return gateway.Decision{Pool: pools[t.Key.Name], Port: 443}
	})
}

// HAProxyConfig is HAProxy's configuration.
func HAProxyConfig(addr netip.AddrPort) string {
	return haproxyConfig(addr, "", "", endpoints{Plain: []netip.AddrPort{addr}, TLS: []netip.AddrPort{addr}})
}

// Fate is what became of paced calls.
type Fate struct {
	Failed, CutOff int
	Worst, Slow    time.Duration
}

// Judge reads how long calls took.
func Judge(took []time.Duration, cut time.Duration) Fate {
	f := judge(took, cut)
	return Fate{f.failed, f.cutOff, f.worst, f.slow}
}

// BridgeConfig is what HAProxy reads that bridges to or from TLS and fails over.
func BridgeConfig(listen netip.AddrPort, secure bool, servers ...netip.AddrPort) string {
	b := &bridge{name: "b", listen: listen, secure: secure, servers: servers, failover: true, threads: 1}
	return b.config("/x")
}
