package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/yamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// ServerOptions say what a Server serves, and bound what others can make it do. A zero field has the default beside it.
type ServerOptions struct {
	Listener net.Listener         // required; the server closes it
	TLS      *tls.Config          // required: our certificate, and whom to trust; a client certificate has to be demanded
	Identify IdentifyFunc         // required
	Revoked  identity.RevokedFunc // nil: nothing is
	Handler  Handler              // required

	Handshakes       int           // under way at a time; more push the oldest out: 256
	PerSource        int           // handshakes of one IPv4 address or IPv6 /64: 64
	HandshakeTimeout time.Duration // 5 s
	OpenTimeout      time.Duration // for the frame that opens a stream: 5 s

	Recheck time.Duration // between two looks at whether a tunnel's other side would still be let in: 1 min

	Tunnels int // of one cluster: 256
	Streams int // in one tunnel; more are refused: 2048
	// PerCluster and InAll are how many streams of one cluster, and of all, may be open or about to be; more are refused. Each
	// may hold 256 KiB that nobody has read, one of datagrams 512 KiB. With WindowMemory that is at most 2304 MiB for streams of
	// bytes, or 4352 MiB if all are of datagrams; for one cluster, half of what is not WindowMemory: 4096 and 8192
	PerCluster, InAll int
	MaxAge            time.Duration // of a tunnel; then it takes no new streams, and ends with its last one: 24 h

	Heartbeat    time.Duration // 250 ms
	Dead         time.Duration // of silence, after which a tunnel is dead: 1 s
	DrainTimeout time.Duration // for the streams that there are when the server stops: 30 s
	Linger       time.Duration // for which the other side may go on after Close: 30 s

	// WindowMemory is how many octets all streams may have on their way to us or unread, beyond 256 KiB each, which nothing
	// takes from them; those of one tunnel at most a quarter of it: 256 MiB
	WindowMemory int64

	Log logr.Logger // zero: none; connections that are refused are logged at level 1
}

func (o ServerOptions) orDefault() ServerOptions {
	o.Handshakes = cmp.Or(o.Handshakes, 256)
	o.PerSource = cmp.Or(o.PerSource, 64)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 5*time.Second)
	o.OpenTimeout = cmp.Or(o.OpenTimeout, 5*time.Second)
	o.Recheck = cmp.Or(o.Recheck, time.Minute)
	o.Tunnels = cmp.Or(o.Tunnels, 256)
	o.Streams = cmp.Or(o.Streams, 2048)
	o.PerCluster = cmp.Or(o.PerCluster, 4096)
	o.InAll = cmp.Or(o.InAll, 8192)
	o.MaxAge = cmp.Or(o.MaxAge, 24*time.Hour)
	o.Heartbeat = cmp.Or(o.Heartbeat, 250*time.Millisecond)
	o.Dead = cmp.Or(o.Dead, time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	o.Linger = cmp.Or(o.Linger, 30*time.Second)
	o.WindowMemory = cmp.Or(o.WindowMemory, 256<<20)
	return o
}

// Server takes tunnels from other gateways. It is a prometheus.Collector too.
type Server struct {
	options  ServerOptions
	tls      *tls.Config
	traffics traffics
	budget   budget
	meters   *meters
	entrance entrance
	refusals map[refusal]*atomic.Uint64
	crowd    crowd // streams that are served, or wait for their open frame
	draining atomic.Bool
	running  sync.WaitGroup

	mu       sync.Mutex
	sessions map[*session]bool
	clusters map[string]int // tunnels
}

// NewServer returns a Server. The caller still has to Run it, which closes the listener too.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Listener == nil || o.TLS == nil || o.Identify == nil || o.Handler == nil {
		return nil, errors.New("a server of tunnels needs to know where to listen, who it is, whom to trust, and who serves: set Listener, TLS, Identify and Handler")
	}
	o = o.orDefault()
	config := o.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{Protocol}
	config.DynamicRecordSizingDisabled = true // that is for browsers
	return &Server{
		options: o, tls: config, budget: budget{limit: o.WindowMemory}, meters: newMeters("server"),
		entrance: newEntrance(o.Handshakes, o.PerSource), sessions: map[*session]bool{}, clusters: map[string]int{}, refusals: newRefusals(),
		crowd: crowd{total: o.InAll, perCluster: o.PerCluster, clusters: map[string]int{}},
	}, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.options.Listener.Addr() }

// Run serves until ctx ends. Then it takes no more tunnels and tells the other gateways to open no more streams here; those
// that are there may go on for at most DrainTimeout, and what is left is reset. It returns when everything has ended,
// handlers included: nil, or the error of a listener that fails. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var err error
	deaf := make(chan struct{})
	s.running.Go(func() { defer close(deaf); err = s.accept(serving) })
	select {
	case <-ctx.Done():
		_ = s.options.Listener.Close()
		<-deaf
		err = nil // it is that the listener was closed
	case <-deaf:
		_ = s.options.Listener.Close()
	}
	s.entrance.close()
	s.draining.Store(true)
	s.drain()
	stop()
	s.running.Wait()
	return err
}

// drain ends all tunnels as their streams end, or when it is time.
func (s *Server) drain() {
	var left sync.WaitGroup
	for _, each := range s.all() {
		each.goAway()
		left.Go(func() {
			over := time.NewTimer(s.options.DrainTimeout)
			defer over.Stop()
			each.leaveTo(over.C)
		})
	}
	left.Wait()
}

func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.sessions))
	for each := range s.sessions {
		all = append(all, each)
	}
	return all
}

// Recheck looks at once at what the other gateways have shown, and ends the tunnels of those that would not be let in now:
// their certificates were revoked, say. One that is being built is looked at again before it takes streams.
func (s *Server) Recheck() {
	for _, each := range s.all() {
		_ = each.recheck()
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context) error {
	var wait time.Duration
	for {
		conn, err := s.options.Listener.Accept()
		if err == nil {
			wait = 0
			s.admit(ctx, conn)
			continue
		}
		if temporary, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); !ok || !temporary.Temporary() {
			return err
		}
		if wait == 0 {
			s.options.Log.Error(err, "no tunnels are accepted for now; if files are what is missing, raise the limit (ulimit -n)")
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// admit lets a connection in, unless there are too many.
func (s *Server) admit(ctx context.Context, raw net.Conn) {
	leave, why := s.entrance.admit(raw)
	if why != none {
		s.refused(why, raw.RemoteAddr(), nil)
		_ = hangUp(raw, false)
		return
	}
	s.running.Go(func() { s.connected(ctx, raw, leave) })
}

// connected makes a connection a tunnel, and serves it.
func (s *Server) connected(ctx context.Context, raw net.Conn, leave func() bool) {
	tune(raw, s.options.Dead)
	conn := tls.Server(newBatched(raw), s.tls)
	it, why, err := s.handshake(ctx, conn)
	if leave() && why != none {
		why = tooMany // it was pushed out
	}
	if why == none {
		var each *session
		if each, why, err = s.enter(conn, it); why == none {
			s.serve(ctx, each)
			return
		}
	}
	s.refused(why, raw.RemoteAddr(), err)
	_ = hangUp(raw, false)
}

// handshake makes sure that the other side is a gateway.
func (s *Server) handshake(ctx context.Context, conn *tls.Conn) (sessionOptions, refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.HandshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		why := refusal(identity.ReasonOf(err))
		switch {
		case ctx.Err() != nil:
			why = tooSlow
		case why == "":
			why = broken
		}
		return sessionOptions{}, why, err
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != Protocol {
		return sessionOptions{}, refusal(identity.ReasonProtocol), nil
	}
	o := &s.options
	shown := proof{state: &state, identify: o.Identify, revoked: o.Revoked}
	if err := shown.check(); err != nil {
		return sessionOptions{}, refusal(identity.ReasonOf(err)), err
	}
	return sessionOptions{
		proof: shown, timing: timing{o.Heartbeat, o.Dead, o.Linger, o.Recheck}, budget: &s.budget, traffic: s.traffics.of(shown.peer.Cluster),
		streams: o.Streams,
	}, none, nil
}

// enter begins a session, unless there are too many.
func (s *Server) enter(conn net.Conn, o sessionOptions) (*session, refusal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clusters[o.proof.peer.Cluster] >= s.options.Tunnels {
		return nil, tooManyOfCluster, nil
	}
	if s.draining.Load() {
		return nil, leaving, nil
	}
	each, err := newSession(conn, o)
	if err != nil {
		return nil, broken, err
	}
	s.sessions[each] = true
	s.clusters[o.proof.peer.Cluster]++
	return each, none, nil
}

// serve takes the streams of a tunnel until it ends.
func (s *Server) serve(ctx context.Context, each *session) {
	// What is found out from here on, Recheck tells this tunnel; what was found out since the handshake, nobody has.
	err := each.recheck()
	s.running.Go(func() { each.age(s.options.MaxAge) })
	for err == nil {
		var mux *yamux.Stream
		if mux, err = each.mux.AcceptStream(); err == nil {
			t := each.attach(mux)
			s.running.Go(func() { s.open(ctx, each, t) })
		}
	}
	each.end(errLeft)
	each.wait()
	if refused, ok := errors.AsType[*identity.RefusedError](each.why()); ok {
		s.refused(refusal(refused.Reason), each.link.RemoteAddr(), refused)
	}
	if cause := each.why(); unwanted(cause) {
		s.options.Log.Info("a tunnel ended", "cluster", each.peer.Cluster, "gateway", each.link.RemoteAddr().String(), "reason", cause.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, each)
	if s.clusters[each.peer.Cluster]--; s.clusters[each.peer.Cluster] == 0 {
		delete(s.clusters, each.peer.Cluster)
	}
}

// incoming is a stream that waits for an answer.
type incoming struct {
	stream    *stream
	datagrams bool
	traffic   *traffic
	answered  atomic.Bool
}

var errAnswered = errors.New("this stream has its answer already")

// Accept tells the other side that it is connected.
func (i *incoming) Accept() (Stream, error) {
	if i.answered.Swap(true) {
		return nil, errAnswered
	}
	if _, err := i.stream.Write(appendAnswer(nil, accepted, "")); err != nil {
		i.traffic.opens[canceled].Add(1)
		_ = i.stream.Reset()
		return nil, err
	}
	i.traffic.opens[opened].Add(1)
	if i.datagrams {
		return newDatagrams(i.stream), nil
	}
	return i.stream, nil
}

// Refuse says no.
func (i *incoming) Refuse(code Code, message string) {
	if i.answered.Load() {
		return
	}
	if code == accepted {
		code = Internal
	}
	i.answer(code, message)
	i.stream.closeLater()
}

func (i *incoming) answer(code Code, message string) {
	if i.answered.Swap(true) {
		return
	}
	i.traffic.opens[refused].Add(1)
	_, _ = i.stream.Write(appendAnswer(nil, code, message))
	_ = i.stream.CloseWrite()
}

// Describe sends the metrics that there are.
func (s *Server) Describe(to chan<- *prometheus.Desc) { s.meters.describe(to) }

// Collect sends their values.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	s.meters.collect(to, &s.traffics, &s.budget, s.all())
	for why, n := range s.refusals {
		counter(to, s.meters.no, n.Load(), string(why))
	}
}
