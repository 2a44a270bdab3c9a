package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Handler is a tunnel.Handler. It is a prometheus.Collector too.
type Handler struct {
	options Options
	log     logr.Logger

	mu       sync.Mutex
	open     int
	clusters map[string]int // streams, by who opened them
	pods     map[wanted]*pods
	traffics map[Flow]*traffic
	refusals map[refused]uint64
}

// wanted is what streams ask for.
type wanted struct {
	service   clusterset.Key
	port      uint16
	datagrams bool
	hostname  string
}

// pods are those that may take what is wanted, as of a service that has not changed since.
type pods struct {
	service *clusterset.Service
	finder  *connect.Finder
}

// New returns a handler.
func New(o Options) (*Handler, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.orDefault()
	return &Handler{
		options: o, log: o.Log, clusters: map[string]int{}, pods: map[wanted]*pods{}, traffics: map[Flow]*traffic{}, refusals: map[refused]uint64{},
	}, nil
}

// Serve connects a stream to a pod and relays until both have ended, or refuses it.
func (h *Handler) Serve(ctx context.Context, from identity.ID, issued time.Time, r tunnel.Request, in tunnel.Incoming) {
	if err := h.serve(ctx, from, issued, &r, in); err != nil {
		h.refused(from, &r, err)
		in.Refuse(err.code, err.message)
	}
}

func (h *Handler) serve(ctx context.Context, from identity.ID, issued time.Time, r *tunnel.Request, in tunnel.Incoming) *refusal {
	snapshot, _ := h.options.Snapshots.Current()
	switch {
	case from.Role != identity.RoleGateway || from.Cluster == "":
		return &refusal{NoGateway, tunnel.Forbidden, fmt.Sprintf("%s is not the identity of a gateway", from)}
	case snapshot.Revoked(from.Cluster, issued):
		return &refusal{Revoked, tunnel.Forbidden, fmt.Sprintf("the certificates of cluster %s were revoked", from.Cluster)}
	case snapshot.Cluster(from.Cluster) == nil: // a good certificate does not say that it is still, or already, with us
		return &refusal{NotMember, tunnel.Forbidden, fmt.Sprintf("cluster %s is not a member, as far as cluster %s knows", from.Cluster, h.options.Cluster)}
	case !h.admit(from.Cluster):
		return &refusal{TooMany, tunnel.Busy, "there are all the streams that there may be"}
	}
	defer h.leave(from.Cluster)
	if r.Probe() {
		return h.echo(in)
	}
	finder, no := h.find(snapshot, from.Cluster, r)
	if no != nil {
		return no
	}
	pod, err := finder.Connect(ctx, connect.Client{Affinity: route.ByName(from.Cluster)}) // who is behind the gateway is not told
	if err != nil {
		return unconnected(ctx, r, err)
	}
	defer pod.Release()
	stream, err := in.Accept()
	if err != nil {
		_ = pod.Reset()
		return &refusal{Gone, tunnel.Internal, err.Error()}
	}
	h.relay(ctx, from.Cluster, r, stream, pod)
	return nil
}

// unconnected is why no pod was found.
func unconnected(ctx context.Context, r *tunnel.Request, err error) *refusal {
	if ctx.Err() != nil {
		return &refusal{Gone, tunnel.Internal, "the stream was given up"}
	}
	return &refusal{Unreachable, tunnel.Unreachable, fmt.Sprintf("no pod of service %s takes the connection: %v", r.Service, err)}
}

// admit counts a stream, unless there are too many.
func (h *Handler) admit(cluster string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open >= h.options.Streams || h.clusters[cluster] >= h.options.PerCluster {
		return false
	}
	h.open++
	h.clusters[cluster]++
	return true
}

func (h *Handler) leave(cluster string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.clusters[cluster]--; h.clusters[cluster] == 0 {
		delete(h.clusters, cluster)
	}
}

// find returns who finds a pod, or why there is none.
func (h *Handler) find(snapshot *clusterset.Snapshot, from string, r *tunnel.Request) (*connect.Finder, *refusal) {
	service := snapshot.Service(r.Service)
	if reason := route.Admits(service, from); reason != clusterset.Used {
		return nil, h.refuse(reason, r, from)
	}
	w := wanted{r.Service, r.Port, r.Datagrams, r.Hostname}
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.pods[w]
	if known != nil && known.service == service {
		return known.finder, nil
	}
	protocol := corev1.ProtocolTCP
	if r.Datagrams {
		protocol = corev1.ProtocolUDP
	}
	addrs, reason := route.Pods(service, h.options.Cluster, route.Wanted{Service: r.Service, Port: r.Port, Protocol: protocol, Hostname: r.Hostname})
	if reason != clusterset.Used {
		return nil, h.refuse(reason, r, from)
	}
	if known == nil { // only what exists is kept, so nobody fills the memory by asking
		h.prune(snapshot)
		known = &pods{finder: connect.New(h.options.Connect, connect.Port{Key: r.Service, Name: strconv.Itoa(int(r.Port)), Protocol: protocol})}
		h.pods[w] = known
	}
	known.service = service
	known.finder.Follow(&connect.Routes{
		Priorities: [][]route.Candidate{{{Cluster: h.options.Cluster, Pods: addrs, Weight: 1}}}, Number: r.Port, Affinity: route.Sticky(service),
	})
	return known.finder, nil
}

// prune forgets what is gone, once that may be the most.
func (h *Handler) prune(snapshot *clusterset.Snapshot) {
	if len(h.pods) < 64+4*snapshot.Len() {
		return
	}
	for w, known := range h.pods {
		if snapshot.Service(w.service) != known.service {
			delete(h.pods, w)
		}
	}
	for f, t := range h.traffics {
		if snapshot.Service(f.Key) == nil && t.open.Load() == 0 {
			delete(h.traffics, f)
		}
	}
}

// relay moves what is said both ways.
func (h *Handler) relay(ctx context.Context, from string, r *tunnel.Request, stream tunnel.Stream, pod *connect.Link) {
	began := time.Now()
	t := h.traffic(Flow{Key: r.Service, Port: r.Port, Datagrams: r.Datagrams, Cluster: from})
	t.connections.Add(1)
	t.open.Add(1)
	var o relay.Outcome
	if r.Datagrams {
		o = relay.Exchange(ctx, stream, pod.Stream, r.Data, h.options.SessionTimeout, &t.Bytes)
	} else {
		o = relay.Streams(ctx, stream, pod.Stream, r.Data, h.options.IdleTimeout, &t.Bytes)
	}
	if o == relay.Aborted { // that is how ctx says it
		o = relay.ClientReset
	}
	t.open.Add(-1)
	t.outcomes[o].Add(1)
	if log := h.log.V(1); log.Enabled() {
		log.Info("stream ended", "service", r.Service.String(), "port", r.Port, "from", from, "pod", pod.Way.Addr.String(),
			"connect", pod.Took.String(), "lasted", time.Since(began).String(), "outcome", o.String())
	}
}

// echoed is how much a probe may say.
const echoed = 4 << 10

// echo answers a probe: what it says comes back.
func (h *Handler) echo(in tunnel.Incoming) *refusal {
	stream, err := in.Accept()
	if err != nil {
		return &refusal{Gone, tunnel.Internal, err.Error()}
	}
	if err := errors.Join(stream.SetDeadline(time.Now().Add(h.options.ProbeTimeout)), repeat(stream)); err != nil {
		_ = stream.Reset() // who probes will notice
	} else {
		_ = stream.Close()
	}
	return nil
}

// repeat says what it hears.
func repeat(stream tunnel.Stream) error {
	_, err := io.CopyBuffer(onlyWriter{stream}, io.LimitReader(stream, echoed), make([]byte, 512))
	return errors.Join(err, stream.CloseWrite())
}

// onlyWriter hides that a stream can do more than write.
type onlyWriter struct{ io.Writer }
