package ads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Source knows who may see what, and what there is to see.
type Source interface {
	// Admit says what a new client sees. Its error ends the stream; one with a gRPC status reaches the client as it is.
	Admit(ctx context.Context, c Client) (Admission, error)
	// Fill keeps a view up to date by calling its Apply, until ctx ends. It runs in a goroutine of its own from the first
	// client of the view until some time after the last one. When it returns early, the view's clients are sent away, and
	// the next one starts it again.
	Fill(ctx context.Context, v *View) error
}

// Client is who opened a stream.
type Client struct {
	Node *corev3.Node // what it says it is; may be nil
	Peer *peer.Peer   // where it is, and what its credentials prove
}

// Admission says what a client sees.
type Admission struct {
	View     string // clients with equal names see the same
	Identity string // who it is, for counting and for people; empty: its address
}

// Config is what a Server is made of.
type Config struct {
	Source      Source
	Kinds       []Kind                           // nil: DefaultKinds
	Limits      Limits                           // zero fields: DefaultLimits
	Credentials credentials.TransportCredentials // nil: none, for tests and loopback only
	Log         logr.Logger
	Register    func(grpc.ServiceRegistrar) // nil: nothing; adds services of one's own to the same port
}

// Server serves aggregated discovery, State of the World and delta.
type Server struct {
	source  Source
	kinds   kinds
	limits  Limits
	log     logr.Logger
	metrics *metrics
	grpc    *grpc.Server
	// refusals keeps strangers from filling the log.
	refusals rate.Sometimes
	ctx      context.Context //nolint:containedctx // the life of the views, which no call bounds
	stop     context.CancelFunc

	mu       sync.Mutex
	draining bool
	open     int // streams, those included that were not admitted yet
	streams  map[*stream]struct{}
	clients  map[string]int // streams by identity
	views    map[string]*running
}

// running is a view that is being filled.
type running struct {
	view    *View
	cancel  context.CancelFunc
	streams int
	linger  *time.Timer // runs while streams is 0
}

var errDraining = status.Error(codes.Unavailable, "this server is going away; connect again to reach another one")

// New returns a server that does not serve yet.
func New(cfg Config) *Server {
	ks := cfg.Kinds
	if ks == nil {
		ks = DefaultKinds()
	}
	s := &Server{
		source: cfg.Source, kinds: ks, limits: cfg.Limits.orDefault(), log: cfg.Log, metrics: newMetrics(),
		streams: map[*stream]struct{}{}, clients: map[string]int{}, views: map[string]*running{},
		refusals: rate.Sometimes{First: 10, Interval: 10 * time.Second},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(s.options(cfg.Credentials)...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, service{server: s})
	if cfg.Register != nil {
		cfg.Register(s.grpc)
	}
	return s
}

// options bound what a stranger can do before any code of ours runs.
func (s *Server) options(creds credentials.TransportCredentials) []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(s.limits.RequestBytes),
		// Requests are small. With windows that grow, gRPC sends a ping for each, which was a fifth of what a change cost.
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow),
		grpc.ReadBufferSize(readBuffer), // of a thousand connections nearly all are silent, and each would keep 32 KB
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxConcurrentStreams(uint32(min(s.limits.StreamsPerClient, 1<<16))), //nolint:gosec // bounded here
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: time.Minute,
		}),
	}
	if creds != nil {
		options = append(options, grpc.Creds(door{creds, s}))
	}
	return options
}

// Collectors returns the server's metrics for registration.
func (s *Server) Collectors() []prometheus.Collector {
	return append(s.metrics.collectors(), gauges{s})
}

// Serve accepts connections until the server is drained or closed, and closes the listener. Several listeners may be
// served at a time.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving ADS on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Close ends everything at once.
func (s *Server) Close() {
	s.refuse()
	s.grpc.Stop()
	s.stop()
}

// Drain hands the clients over to other servers: it accepts nothing new, tells clients to connect elsewhere, and ends
// their streams one by one over a period, so that the others do not get them all at once. When ctx ends first, the rest
// ends at once, and Drain returns why.
func (s *Server) Drain(ctx context.Context, over time.Duration) error {
	s.refuse()
	defer s.Close()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	streams := s.list()
	if len(streams) > 0 {
		ticker := time.NewTicker(max(over/time.Duration(len(streams)), time.Nanosecond))
		defer ticker.Stop()
		for _, st := range streams {
			st.end(errDraining)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("draining %d streams over %v: %w", len(streams), over, ctx.Err())
			}
		}
	}
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the last streams to end: %w", ctx.Err())
	}
}

func (s *Server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
}

// list returns the streams, the oldest first.
func (s *Server) list() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	slices.SortFunc(streams, func(a, b *stream) int {
		return cmp.Or(a.about.Since.Compare(b.about.Since), cmp.Compare(a.about.Address, b.about.Address))
	})
	return streams
}

// service is the gRPC face of a Server.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

func (a service) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.server.converse(newWhole(stream, a.server.kinds), "sotw")
}

func (a service) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.server.converse(delta{stream}, "delta")
}

// converse serves one stream.
func (s *Server) converse(talk conversation, protocol string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	ctx := talk.context()
	messages := hear(talk)
	first, err := s.first(ctx, messages)
	if err != nil {
		return err
	}
	client := Client{Node: first.node}
	client.Peer, _ = peer.FromContext(ctx)
	admission, err := s.source.Admit(ctx, client)
	if err != nil {
		s.metrics.refused.WithLabelValues("source").Inc()
		s.refusals.Do(func() {
			s.log.Info("A client was refused", "node", shorten(client.Node.GetId(), maxLabel), "address", addressOf(client.Peer), "why", err.Error())
		})
		return asStatus(codes.PermissionDenied, err)
	}
	st := s.describe(talk, client, admission, protocol)
	if err := s.join(st, admission.View); err != nil {
		return err
	}
	defer s.leave(st)
	s.metrics.streams.WithLabelValues(protocol).Inc()
	defer s.metrics.streams.WithLabelValues(protocol).Dec()
	return st.run(ctx, first, messages)
}

// enter takes a place among the streams before anything is read.
func (s *Server) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		s.metrics.refused.WithLabelValues("draining").Inc()
		return errDraining
	}
	if s.open >= s.limits.Streams {
		s.metrics.refused.WithLabelValues("streams").Inc()
		return status.Errorf(codes.ResourceExhausted, "this server has %d streams, which is its limit; connect to another one", s.open)
	}
	s.open++
	return nil
}

func (s *Server) exit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// first waits for the first request, which says who asks.
func (s *Server) first(ctx context.Context, messages <-chan heard) (message, error) {
	timer := time.NewTimer(s.limits.FirstRequest)
	defer timer.Stop()
	select {
	case m := <-messages:
		if m.err != nil {
			return message{}, asStatus(codes.Canceled, m.err)
		}
		return m.message, nil
	case <-timer.C:
		s.metrics.refused.WithLabelValues("silent").Inc()
		return message{}, status.Errorf(codes.DeadlineExceeded, "the stream asked for nothing within %v", s.limits.FirstRequest)
	case <-ctx.Done():
		return message{}, status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) describe(talk conversation, c Client, a Admission, protocol string) *stream {
	address := addressOf(c.Peer)
	identity := a.Identity
	if identity == "" {
		identity = hostOf(address)
	}
	return &stream{
		talk: talk, server: s,
		session: newSession(s.kinds, protocol == "delta", s.limits),
		limiter: rate.NewLimiter(rate.Limit(s.limits.RequestsPerSec), s.limits.RequestBurst),
		awake:   make(chan struct{}, 1), ended: make(chan struct{}),
		about: ClientState{
			Node: shorten(c.Node.GetId(), maxLabel), Agent: shorten(agent(c.Node), maxLabel), Identity: identity,
			Address: address, View: a.View, Protocol: protocol, Since: time.Now(),
		},
	}
}

func addressOf(p *peer.Peer) string {
	if p == nil || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func agent(node *corev3.Node) string {
	name := node.GetUserAgentName()
	if version := node.GetUserAgentVersion(); version != "" {
		name += " " + version
	}
	return name
}

// join makes the stream one of its view's, which starts if it is the first.
func (s *Server) join(st *stream, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	if n := s.clients[st.about.Identity]; n >= s.limits.StreamsPerClient {
		s.metrics.refused.WithLabelValues("client").Inc()
		return status.Errorf(codes.ResourceExhausted, "%s has %d streams, which is the limit for one client", st.about.Identity, n)
	}
	r := s.views[name]
	if r == nil {
		r = s.start(name)
	}
	if r.linger != nil {
		r.linger.Stop()
		r.linger = nil
	}
	r.streams++
	s.clients[st.about.Identity]++
	s.streams[st] = struct{}{}
	st.view = r.view
	r.view.join(st)
	return nil
}

// start has a view filled. s.mu is held.
func (s *Server) start(name string) *running {
	r := &running{view: newView(name, s.kinds)}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(s.ctx)
	s.views[name] = r
	s.metrics.views.Inc()
	go func() {
		err := s.source.Fill(ctx, r.view)
		if ctx.Err() == nil {
			s.log.Error(err, "A view is not kept up to date any more; its clients are sent away", "view", name)
			s.fail(r, err)
		}
	}()
	return r
}

// fail ends the streams of a view that nobody fills.
func (s *Server) fail(r *running, err error) {
	if err == nil {
		err = errors.New("the view ended")
	}
	s.mu.Lock()
	s.drop(r)
	s.mu.Unlock()
	r.view.mu.RLock()
	defer r.view.mu.RUnlock()
	for st := range r.view.streams {
		st.end(asStatus(codes.Unavailable, err))
	}
}

// drop forgets a view. s.mu is held.
func (s *Server) drop(r *running) {
	if s.views[r.view.name] == r {
		delete(s.views, r.view.name)
		s.metrics.views.Dec()
	}
	r.cancel()
}

// leave undoes join. A view without streams stays for a while: its clients may be on their way back.
func (s *Server) leave(st *stream) {
	st.view.leave(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if s.clients[st.about.Identity]--; s.clients[st.about.Identity] == 0 {
		delete(s.clients, st.about.Identity)
	}
	r := s.views[st.about.View]
	if r == nil || r.view != st.view {
		return
	}
	if r.streams--; r.streams == 0 {
		r.linger = time.AfterFunc(s.limits.Linger, func() { s.expire(r) })
	}
}

func (s *Server) expire(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.streams == 0 {
		s.drop(r)
	}
}

// asStatus keeps the status that an error has, and gives it one otherwise.
func asStatus(code codes.Code, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(code, err.Error())
}

// closed is what a stream returns whose client stopped sending.
func closed(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// gauges counts what views hold when it is asked.
type gauges struct{ server *Server }

func (g gauges) Describe(ch chan<- *prometheus.Desc) { g.server.metrics.resources.Describe(ch) }

func (g gauges) Collect(ch chan<- prometheus.Metric) {
	g.server.mu.Lock()
	views := make([]*View, 0, len(g.server.views))
	for _, r := range g.server.views {
		views = append(views, r.view)
	}
	g.server.mu.Unlock()
	for kind, k := range g.server.kinds {
		total := 0
		for _, v := range views {
			v.mu.RLock()
			total += len(v.sets[kind].bodies)
			v.mu.RUnlock()
		}
		g.server.metrics.resources.WithLabelValues(k.label()).Set(float64(total))
	}
	g.server.metrics.resources.Collect(ch)
}
