package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Step is what a Hop is about.
type Step string

// The steps of a trace, in their order.
const (
	// Decide: which clusters there are to choose from, by priority.
	Decide Step = "decide"
	// Tunnel: to the gateway of the cluster that was chosen, and back.
	Tunnel Step = "tunnel"
	// Connect: until a pod has acknowledged, by the way of a connection of a client's; the tunnel is part of it.
	Connect Step = "connect"
)

// Hop is a step of a connection.
type Hop struct {
	Step Step
	// At is where it led, for people.
	At   string
	Took time.Duration
	// Problem is empty, or why it led nowhere; then it is the last hop.
	Problem string
}

// Trace opens a connection to a port of a service, by its name or number ("": the first), as it would be opened for a client,
// tells each step, and ends it without sending anything.
func (g *Gateway) Trace(ctx context.Context, key clusterset.Key, port string) []Hop {
	began := time.Now()
	s, err := g.traced(key, port)
	if err != nil {
		return []Hop{{Step: Decide, At: key.String(), Took: time.Since(began), Problem: err.Error()}}
	}
	r := s.Routes()
	hops := []Hop{{Step: Decide, At: s.port.Name + ": " + r.String(), Took: time.Since(began)}}
	if len(r.Priorities) == 0 {
		hops[0].Problem = r.Explain()
		return hops
	}
	l, err := s.Connect(ctx, connect.Client{})
	if err != nil {
		return append(hops, Hop{Step: Connect, Took: time.Since(began), Problem: err.Error()})
	}
	_ = l.Reset()
	l.Release()
	if l.Way.Tunnel {
		hops = append(hops, g.probe(ctx, l.Way))
	}
	return append(hops, Hop{Step: Connect, At: "cluster " + l.Way.String(), Took: l.Took})
}

// traced returns the service that has a port's connections, or one that is like it when there is no listener for them.
func (g *Gateway) traced(key clusterset.Key, port string) (*service, error) {
	snapshot, _ := g.options.Snapshots.Current()
	found := snapshot.Service(key)
	if reason := route.Admits(found, g.options.Cluster); reason != "" {
		return nil, errors.New(reason.Explain())
	}
	ports := found.Properties.Ports
	at := slices.IndexFunc(ports, func(p clusterset.Port) bool {
		return port == "" || p.Name == port || strconv.Itoa(int(p.Port)) == port
	})
	if at < 0 {
		return nil, fmt.Errorf("the service has no port %q", port)
	}
	p := Port{Key: key, Name: ports[at].Name, Protocol: ports[at].Protocol}
	if p.Protocol == "" {
		p.Protocol = corev1.ProtocolTCP
	}
	g.mu.RLock()
	l := g.listeners[p]
	g.mu.RUnlock()
	if l != nil {
		return l.service, nil
	}
	s := newService(g, p)
	s.follow(snapshot, clusterset.Consumer{Cluster: g.options.Cluster, Zone: g.options.Zone(), Gateway: true})
	return s, nil
}

// probe measures the way to a gateway and back.
func (g *Gateway) probe(ctx context.Context, w route.Way) Hop {
	hop := Hop{Step: Tunnel, At: "gateway " + w.Addr.String() + " of cluster " + w.Cluster}
	ctx, cancel := context.WithTimeout(ctx, g.options.Connect.AttemptTimeout)
	defer cancel()
	began := time.Now()
	err := g.echo(ctx, tunnel.Peer{Cluster: w.Cluster, Addr: w.Addr})
	hop.Took = time.Since(began)
	if err != nil {
		hop.Problem = err.Error()
	}
	return hop
}

// echo has a gateway send something back.
func (g *Gateway) echo(ctx context.Context, to tunnel.Peer) error {
	stream, err := g.options.Connect.Opener.Open(ctx, to, tunnel.Request{})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Reset() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := stream.SetDeadline(deadline); err != nil {
			return err
		}
	}
	said := []byte("?\n")
	if _, err := stream.Write(said); err != nil {
		return err
	}
	_, err = io.ReadFull(stream, said)
	return err
}
