package connect

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Opener opens streams to gateways of other clusters. It returns when the other side has acknowledged; the context is for
// no longer. tunnel.Dialer is one.
type Opener interface {
	Open(ctx context.Context, to tunnel.Peer, request tunnel.Request) (tunnel.Stream, error)
}

// Options say how ways are found. A zero field has the default beside it.
type Options struct {
	Opener Opener // nil: there are no ways through tunnels

	Timing route.Timing
	Budget route.Budget // route.DefaultBudget, for each port of a service
	// NoRace has ways tried one after the other only, as other gateways do. It is for comparison.
	NoRace bool

	Attempts       int           // ways that are tried for a connection: 6
	AttemptTimeout time.Duration // for one: 3 s
	ConnectTimeout time.Duration // for all: 10 s

	Log logr.Logger // zero: none
}

// OrDefault fills in what is zero.
func (o Options) OrDefault() Options {
	o.Timing = o.Timing.OrDefault()
	if o.Budget == (route.Budget{}) {
		o.Budget = route.DefaultBudget()
	}
	o.Attempts = cmp.Or(o.Attempts, 6)
	o.AttemptTimeout = cmp.Or(o.AttemptTimeout, 3*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 10*time.Second)
	return o
}

// dialer is for pods. Dead ones are noticed after about two minutes.
var dialer = func() *net.Dialer {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	d.SetMultipathTCP(false)
	return d
}()

// Port is one port of a service.
type Port struct {
	clusterset.Key

	Name     string
	Protocol corev1.Protocol // never empty
}

// Datagrams tells whether it is one for UDP.
func (p Port) Datagrams() bool { return p.Protocol == corev1.ProtocolUDP }

// Routes is where connections may go.
type Routes struct {
	Priorities [][]route.Candidate
	// Problem is why there is nothing to use, when there is not.
	Problem error
	// Number is that of the port.
	Number uint16
	// Affinity has connections of a client go the same way.
	Affinity bool
}

// String returns the candidates for people: priorities from first to last, each with its clusters.
func (r *Routes) String() string {
	var all []string
	for i, candidates := range r.Priorities {
		var clusters []string
		for _, c := range candidates {
			what := fmt.Sprintf("%d pods", len(c.Pods))
			if len(c.Gateways) > 0 {
				what = fmt.Sprintf("%d gateways", len(c.Gateways))
			}
			clusters = append(clusters, fmt.Sprintf("%s (%s, weight %d)", c.Cluster, what, c.Weight))
		}
		all = append(all, fmt.Sprintf("%d. %s", i, strings.Join(clusters, ", ")))
	}
	return strings.Join(all, "; ")
}

// Explain says why there is nothing to use.
func (r *Routes) Explain() string { return r.problem().Error() }
