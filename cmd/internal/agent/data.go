package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// serve carries traffic until an order comes, and then ends in the order in which others notice least.
func (w *worker) serve(ctx context.Context, helpers *group) error {
	if err := w.make(); err != nil {
		return errors.Join(err, w.abandon())
	}
	snapshot, _ := w.feed.Current()
	w.dialer.SetPeers(peersOf(snapshot, w.cluster)) // before the first connection is taken
	knowledge, data := newGroup(ctx), newGroup(ctx)
	knowledge.run("feed", w.feed.Run)
	knowledge.run("peers", w.mind)
	knowledge.run("hubs", w.talk.Run)
	data.run("tunnels", w.server.Run)
	data.run("outbound", w.out.Run)
	if w.pass != nil {
		data.run("passthrough", w.pass.Run)
	}
	if w.options.DNS.On() {
		data.run("DNS", w.answer)
	}
	var err error
	order := sockets.Retire // what a failure is like: no goodbye, for the next worker is there in a moment
	if err = w.greet(helpers); err == nil {
		select {
		case order = <-w.orders:
		case <-data.failed():
		case <-knowledge.failed():
		case <-helpers.failed():
		}
	}
	if ordered, ok := errors.AsType[orderError](err); ok {
		order = ordered.Order
	}
	w.waits("it ends")
	w.depart(order)
	if order != sockets.Stop {
		err = errors.Join(err, knowledge.end()) // the next worker writes the same files, and is who hubs hear
	}
	err = errors.Join(err, data.end())
	w.dialer.Close()
	return errors.Join(err, knowledge.end())
}

// make makes all parts that carry traffic, and opens their sockets.
func (w *worker) make() error {
	o := w.options
	peering := w.papers.peering(w.revoked, tunnel.Protocol)
	var err error
	w.dialer, err = tunnel.NewDialer(tunnel.Options{
		TLS: peering.PeerConfig, Identify: peering.Identify, Revoked: w.revoked, DrainTimeout: o.DrainTimeout, Log: w.log.WithName("tunnels"),
	})
	if err != nil {
		return err
	}
	if w.inbound, err = inbound.New(inbound.Options{Snapshots: w.feed, Cluster: w.cluster, Log: w.log.WithName("inbound")}); err != nil {
		return err
	}
	listener, err := w.listenFor("tunnel-addr", o.Tunnels)
	if err != nil {
		return err
	}
	w.server, err = tunnel.NewServer(tunnel.ServerOptions{
		Listener: listener, TLS: peering.ServerConfig(), Identify: peering.Identify, Revoked: w.revoked, Handler: w.inbound,
		DrainTimeout: o.DrainTimeout, Log: w.log.WithName("tunnels"),
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	w.out, err = outbound.New(outbound.Options{
		Snapshots: w.feed, Cluster: w.cluster, Zone: w.place.Zone, Address: o.inside, Connect: connect.Options{Opener: w.dialer}, Sockets: w.sockets,
		DrainTimeout: o.DrainTimeout, Log: w.log.WithName("outbound"),
	})
	if err != nil {
		return err
	}
	if err := w.makePassthrough(); err != nil {
		return err
	}
	w.talk = w.newTalk()
	if err := w.web.show(w.dialer, w.server, w.inbound, w.out); err != nil {
		return err
	}
	return nil
}

// makePassthrough makes what passes TLS on by server name, unless that is turned off.
func (w *worker) makePassthrough() error {
	if w.options.Passthrough == off {
		return nil
	}
	var err error
	w.pass, err = gateway.New(gateway.Options{
		Addresses: []string{w.options.Passthrough}, Listen: w.listen, DrainTimeout: w.options.DrainTimeout, Log: w.log.WithName("passthrough"),
		Router: gateway.NewLocal(gateway.LocalOptions{Snapshots: w.feed, Cluster: w.cluster, Opens: w.opens, Proxy: w.proxies}),
	})
	if err != nil {
		return fmt.Errorf("--passthrough-addr: %w", err)
	}
	return w.web.show(w.pass)
}

// passthrough is what people say of a service that is reached by server name; nil: it is not.
func (w *worker) passthrough(key clusterset.Key) *clusterset.Passthrough {
	snapshot, _ := w.feed.Current()
	service := snapshot.Service(key)
	if service == nil || service.Policy == nil {
		return nil
	}
	return service.Policy.Passthrough
}

// opens tells whether a source reaches a service by server name.
func (w *worker) opens(key clusterset.Key, source netip.Addr) bool {
	policy := w.passthrough(key)
	return policy != nil && (len(policy.Sources) == 0 || slices.ContainsFunc(policy.Sources, func(p netip.Prefix) bool { return p.Contains(source.Unmap()) }))
}

// proxies tells whether the pods of a service are told where clients come from.
func (w *worker) proxies(key clusterset.Key) bool {
	policy := w.passthrough(key)
	return policy != nil && policy.ProxyProtocol
}

// abandon closes what was made and never runs.
func (w *worker) abandon() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var problems []error
	if w.server != nil {
		problems = append(problems, w.server.Run(over))
	}
	if w.pass != nil {
		problems = append(problems, w.pass.Run(over))
	}
	if w.dialer != nil {
		w.dialer.Close()
	}
	return errors.Join(problems...)
}

// greet waits until all is there that clients need, and tells the parent.
func (w *worker) greet(helpers *group) error {
	w.waits("no hub has told of services yet, and none are kept")
	if err := w.await(helpers, w.feed.Ready()); err != nil {
		return err
	}
	w.waits("the ports of services are being opened")
	if err := w.await(helpers, w.out.Ready()); err != nil {
		return err
	}
	w.beHeard(helpers)
	w.waits("")
	w.log.Info("Serving", "took", time.Since(w.started).Round(time.Millisecond).String())
	if w.announce == nil {
		return nil
	}
	return w.announce()
}

// hearing is how long a worker waits at most until a hub hears it, before the one before it ends.
const hearing = 3 * time.Second

// beHeard waits until a hub hears this worker: between the end of the one before and that, hubs would hear of no gateway here.
func (w *worker) beHeard(helpers *group) {
	patience := time.NewTimer(hearing)
	defer patience.Stop()
	tick := time.NewTicker(dnsPause)
	defer tick.Stop()
	for !slices.ContainsFunc(w.talk.State(), func(h agents.HubState) bool { return h.Connected }) {
		select {
		case <-tick.C:
		case <-patience.C: // there is no hub; nobody is to wait for that
			return
		case <-helpers.failed():
			return
		}
	}
}

// goodbyes is how long it may take to tell all hubs.
const goodbyes = time.Second

// depart tells hubs, and through them other gateways, that this one goes, and goes on until they have heard.
func (w *worker) depart(order sockets.Order) {
	w.log.Info("Ending", "order", string(order), "drain", w.options.DrainTimeout.String())
	if order != sockets.Stop {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbyes)
	defer cancel()
	w.talk.Leave(ctx)
	<-time.After(w.options.LeaveDelay)
}

// dnsPause is the time between attempts to open the sockets of DNS, which the worker before may still have.
const dnsPause = 20 * time.Millisecond

// dnsPatience is after what time it is said that DNS has no sockets.
const dnsPatience = 3 * time.Second

// answer runs the DNS server.
func (w *worker) answer(ctx context.Context) error {
	flags := w.options.DNS
	if flags.Cluster == "" {
		flags.Cluster = w.cluster
	}
	told := time.AfterFunc(dnsPatience, func() {
		w.log.Info("DNS does not answer: somebody else has its address, and it is tried again all the time", "address", flags.Addrs)
	})
	defer told.Stop()
	for {
		server, err := dns.New(dns.Options{Flags: &flags, Snapshots: w.feed, Sockets: w.dnsSockets(&flags), Log: w.log.WithName("dns")})
		switch {
		case err == nil:
			told.Stop()
			return w.answerWith(ctx, server)
		case !errors.Is(err, syscall.EADDRINUSE):
			return err
		}
		select {
		case <-time.After(dnsPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// dnsSockets are the parent's, which keep queries over the end of this worker. Those of DNS on all addresses have to be its
// own: they tell at which address a query came, and there is one for each family.
func (w *worker) dnsSockets(flags *dns.Flags) listen.Sockets {
	if w.announce == nil {
		return nil
	}
	for _, addr := range slices.Concat(flags.Addrs, flags.TLSAddrs, flags.HTTPSAddrs) {
		if at, err := netip.ParseAddrPort(addr); err != nil || at.Addr().IsUnspecified() {
			return nil
		}
	}
	return w.sockets
}

func (w *worker) answerWith(ctx context.Context, server *dns.Server) error {
	w.dns.Store(server)
	defer w.dns.Store(nil)
	if err := w.web.show(server.Collectors()...); err != nil {
		return errors.Join(err, server.Close())
	}
	judge := &judge{state: w.feed.State, mark: server.SetStale, log: w.log.WithName("dns")}
	judge.look(time.Now())
	judging := newGroup(ctx)
	judging.run("judge", func(ctx context.Context) error {
		judge.run(ctx)
		return nil
	})
	err := server.Run(ctx)
	return errors.Join(err, judging.end())
}

// newTalk is what the agent tells the hubs.
func (w *worker) newTalk() *agents.Client {
	return agents.NewClient(agents.Options{
		Hubs: func() []string { return w.options.Hubs }, Credentials: w.credentials(), Log: w.log.WithName("hubs"),
		Hello: w.hello, Peers: sights{w.dialer}, Stats: w.stats, Tracer: agents.TracerFunc(w.trace),
	})
}
