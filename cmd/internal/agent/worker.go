package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/inbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// socketSource is where listening sockets come from: the parent, or this process.
type socketSource = outbound.Sockets

// worker is everything that an agent does but keeping sockets.
type worker struct {
	options  *GatewayOptions
	sockets  socketSource
	orders   <-chan sockets.Order
	announce func() error // tells the parent that it serves; nil: there is none
	log      logr.Logger
	started  time.Time

	// What follows is there once the parts before have been made.

	web     *web
	papers  *papers
	cluster string // own id in the clusterset
	feed    *feed.Client
	place   *place
	dialer  *tunnel.Dialer
	inbound *inbound.Handler
	server  *tunnel.Server
	out     *outbound.Gateway
	pass    *gateway.Server // nil: turned off
	dns     atomic.Pointer[dns.Server]
	talk    *agents.Client
	stage   atomic.Pointer[string] // what it waits for; nil: nothing
}

// run works until an order comes or a part fails.
func (w *worker) run(ctx context.Context) error {
	w.waits("it starts")
	helpers := newGroup(ctx)
	err := w.begin(helpers)
	if err == nil {
		err = w.serve(ctx, helpers)
	}
	return errors.Join(ignoreOrder(err), helpers.end())
}

// orderError is the order that came while a worker was not serving yet.
type orderError struct{ sockets.Order }

// Error says which it is.
func (e orderError) Error() string { return "told to " + string(e.Order) }

func ignoreOrder(err error) error {
	if _, ordered := errors.AsType[orderError](err); ordered {
		return nil
	}
	return err
}

// waits notes what the worker waits for; empty: for nothing, it serves.
func (w *worker) waits(what string) {
	if what == "" {
		w.stage.Store(nil)
		return
	}
	w.stage.Store(&what)
	w.log.V(1).Info("Waiting", "for", what)
}

// ready is the readiness check.
func (w *worker) ready(r *http.Request) error {
	if what := w.stage.Load(); what != nil {
		return fmt.Errorf("the gateway does not serve: %s", *what)
	}
	if server := w.dns.Load(); server != nil {
		return server.Check(r)
	}
	return nil
}

// begin makes what the rest needs: who we are, and what there is.
func (w *worker) begin(helpers *group) error {
	var err error
	w.web, err = newWeb(helpers.ctx, w.options.MetricsAddr, shown{
		check: w.ready, pages: map[string]http.Handler{"GET " + dns.TapPath: http.HandlerFunc(w.tap)}, listen: w.listen,
	}, w.log)
	if err != nil {
		return err
	}
	helpers.run("metrics", w.web.run)
	if w.papers, err = w.options.newPapers(helpers, w.log.WithName("identity")); err != nil {
		return err
	}
	if err := w.web.show(w.papers.collectors...); err != nil {
		return err
	}
	w.waits("it has no certificate from the hub yet")
	if err := w.await(helpers, w.papers.ready); err != nil {
		return err
	}
	id, err := w.papers.id()
	if err != nil {
		return err
	}
	w.cluster = id.Cluster
	w.log.Info("This is a gateway", "cluster", w.cluster, "node", w.options.NodeName, "inside", w.options.inside, "outside", w.options.outside)
	return w.follow(helpers)
}

// await waits for something, or for an order or a failure.
func (w *worker) await(parts *group, what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case order := <-w.orders:
		return orderError{order}
	case <-parts.failed():
		return parts.end()
	}
}

// tap shows queries of the DNS server, once there is one.
func (w *worker) tap(out http.ResponseWriter, r *http.Request) {
	server := w.dns.Load()
	if server == nil {
		http.Error(out, "there is no DNS server", http.StatusServiceUnavailable)
		return
	}
	server.Tap().ServeHTTP(out, r)
}

// listen opens a socket at IP:PORT or :PORT.
func (w *worker) listen(addr string) (net.Listener, error) {
	at, err := parseListen(addr)
	if err != nil {
		return nil, err
	}
	return w.sockets.Listen("tcp", at)
}

// listenFor is listen for a flag, which its error names.
func (w *worker) listenFor(flag, addr string) (net.Listener, error) {
	listener, err := w.listen(addr)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return listener, nil
}

// credentials are those towards the hub.
func (w *worker) credentials() credentials.TransportCredentials {
	return identity.Credentials(identity.HubClient{Own: w.papers, Roots: w.papers}.Config(), w.papers.refused)
}

// revoked tells whether a certificate was taken back, as far as is known here.
func (w *worker) revoked(cluster string, issued time.Time) bool {
	snapshot, _ := w.feed.Current()
	return snapshot.Revoked(cluster, issued)
}

// portOf is the port of an address that was checked; 0: it is turned off.
func portOf(addr string) uint16 {
	at, err := parseListen(addr)
	if err != nil {
		return 0
	}
	return at.Port()
}
