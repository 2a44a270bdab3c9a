package agents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

var (
	errDraining = status.Error(codes.Unavailable, "this hub is going away")
	errReplaced = status.Error(codes.Aborted, "the agent of this node has connected again")
	errSilent   = status.Error(codes.DeadlineExceeded, "the agent said nothing for too long")
)

// outboxSize is how many commands may wait to be sent to one agent.
const outboxSize = 32

// stream is one of Agents.Connect.
type stream struct {
	peer    *peer.Peer
	cluster string
	outbox  chan *agentpb.HubMessage

	once  sync.Once
	ended chan struct{}
	why   error // once ended is closed
}

// end has the stream end with an error. The first call counts.
func (st *stream) end(why error) {
	st.once.Do(func() {
		st.why = why
		close(st.ended)
	})
}

// tell puts a message into the outbox; false if that is full.
func (st *stream) tell(m *agentpb.HubMessage) bool {
	select {
	case st.outbox <- m:
		return true
	default:
		return false
	}
}

// heard is what receiving returned.
type heard struct {
	*agentpb.AgentMessage
	err error
}

// hear receives until the stream ends.
func hear(wire agentpb.ConnectServer) <-chan heard {
	messages := make(chan heard)
	go func() {
		for {
			m, err := wire.Recv()
			select {
			case messages <- heard{m, err}:
			case <-wire.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return messages
}

// Connect serves one agent.
func (s *Server) Connect(wire agentpb.ConnectServer) error {
	ctx := wire.Context()
	st := &stream{outbox: make(chan *agentpb.HubMessage, outboxSize), ended: make(chan struct{})}
	st.peer, _ = peer.FromContext(ctx)
	var err error
	if st.cluster, err = s.identify(st.peer); err != nil {
		s.metrics.refused.Inc()
		return err
	}
	if err := s.enter(st); err != nil {
		s.metrics.refused.Inc()
		return err
	}
	defer s.exit(st)
	messages := hear(wire)
	id, err := s.greet(wire, st, messages)
	if err != nil {
		return err
	}
	defer s.gone(id, st)
	return s.converse(wire, st, id, messages)
}

// identify finds out which cluster's gateway is at the other end.
func (s *Server) identify(p *peer.Peer) (cluster string, err error) {
	who, err := s.options.Identify(p)
	switch {
	case err != nil:
		return "", status.Error(codes.Unauthenticated, err.Error())
	case who.Role != identity.RoleGateway || who.Cluster == "":
		return "", status.Errorf(codes.PermissionDenied, "%s is no gateway; only the agents of gateways may connect here", who)
	}
	return who.Cluster, nil
}

// enter takes a place among the streams.
func (s *Server) enter(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	same := 0
	for other := range s.streams {
		if other.cluster == st.cluster {
			same++
		}
	}
	limits := s.options.Limits
	if same >= limits.Streams || len(s.streams) >= limits.AllStreams {
		return status.Errorf(codes.ResourceExhausted, "there are %d streams of cluster %s, and %d in all: more are not taken", same, st.cluster, len(s.streams))
	}
	s.streams[st] = struct{}{}
	return nil
}

func (s *Server) exit(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

// greet waits for the first Hello, and answers it.
func (s *Server) greet(wire agentpb.ConnectServer, st *stream, messages <-chan heard) (health.Agent, error) {
	timer := time.NewTimer(s.options.Limits.First)
	defer timer.Stop()
	var m heard
	select {
	case m = <-messages:
	case <-timer.C:
		return health.Agent{}, errSilent
	case <-st.ended:
		return health.Agent{}, st.why
	case <-wire.Context().Done():
		return health.Agent{}, status.FromContextError(wire.Context().Err()).Err()
	}
	if m.err != nil {
		return health.Agent{}, m.err
	}
	if m.GetHello() == nil {
		return health.Agent{}, status.Error(codes.InvalidArgument, "the first message of a stream has to be a Hello")
	}
	hello, err := readHello(m.GetHello())
	if err != nil {
		return health.Agent{}, status.Error(codes.InvalidArgument, err.Error())
	}
	id := health.Agent{Cluster: st.cluster, Node: hello.Node}
	if err := s.greeted(id, hello, st); err != nil {
		return health.Agent{}, err
	}
	welcome := &agentpb.HubMessage{Message: &agentpb.HubMessage_Welcome{Welcome: &agentpb.Welcome{Hub: s.options.Name}}}
	if err := wire.Send(welcome); err != nil {
		s.gone(id, st)
		return health.Agent{}, err
	}
	return id, nil
}

// greeted notes who is connected by a stream. An older stream of the same agent ends. The error says that there are too many.
func (s *Server) greeted(id health.Agent, hello Hello, st *stream) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.machine.Hello(id, hello.tunnelAddr(), now) {
		s.metrics.refused.Inc()
		return status.Errorf(codes.ResourceExhausted, "%d gateways of cluster %s are connected: more are not taken", health.MaxAgents, id.Cluster)
	}
	a := s.agents[id]
	if a == nil {
		s.forget() // the machine may have forgotten one for this one
		a = &agent{}
		s.agents[id] = a
	}
	if a.stream != nil && a.stream != st {
		a.stream.end(errReplaced)
	}
	if a.stream != st {
		a.since = now
		s.options.Log.Info("The agent of a gateway is connected", "cluster", id.Cluster, "node", id.Node, "outside", addrText(hello.Outside), "tunnel", hello.Tunnel)
	}
	a.hello, a.stream, a.leaving = hello, st, false
	s.wakeUp()
	return nil
}

// forget drops agents that are gone and that the machine has forgotten. The lock is held.
func (s *Server) forget() {
	maps.DeleteFunc(s.agents, func(id health.Agent, a *agent) bool { return a.stream == nil && !s.machine.Knows(id) })
}

// gone notes that an agent is not connected any more, unless it is by another stream.
func (s *Server) gone(id health.Agent, st *stream) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[id]
	if a == nil || a.stream != st {
		return
	}
	a.stream, a.since = nil, now
	s.machine.Gone(id, now)
	s.options.Log.Info("The agent of a gateway is gone", "cluster", id.Cluster, "node", id.Node, "leaving", a.leaving)
	s.wakeUp()
}

// converse takes in what an agent says until the stream ends, and returns why.
func (s *Server) converse(wire agentpb.ConnectServer, st *stream, id health.Agent, messages <-chan heard) error {
	ctx, cancel := context.WithCancel(wire.Context())
	defer cancel()
	go st.send(ctx, wire)
	limits := s.options.Limits
	pace := rate.NewLimiter(rate.Limit(limits.MessagesPerSecond), limits.Burst)
	silence := time.NewTimer(limits.Silence)
	defer silence.Stop()
	for {
		select {
		case m := <-messages:
			if errors.Is(m.err, io.EOF) {
				return nil
			}
			if m.err != nil {
				return m.err
			}
			silence.Reset(limits.Silence)
			if err := s.take(id, st, m.AgentMessage); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			if err := pace.Wait(ctx); err != nil {
				return err
			}
		case <-silence.C:
			return errSilent
		case <-st.ended:
			return st.why
		case <-ctx.Done(): // then hear may have ended without a word
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// send sends what is in the outbox until ctx ends.
func (st *stream) send(ctx context.Context, wire agentpb.ConnectServer) {
	for {
		select {
		case m := <-st.outbox:
			if err := wire.Send(m); err != nil {
				st.end(err)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// take notes one message. The error says what is wrong with it.
func (s *Server) take(id health.Agent, st *stream, m *agentpb.AgentMessage) error {
	switch said := m.GetMessage().(type) {
	case *agentpb.AgentMessage_Hello:
		hello, err := readHello(said.Hello)
		if err != nil {
			return err
		}
		if hello.Node != id.Node {
			return fmt.Errorf("the agent of node %s cannot become that of node %s; connect again", id.Node, hello.Node)
		}
		return s.greeted(id, hello, st)
	case *agentpb.AgentMessage_Report:
		report, err := readReport(said.Report)
		if err != nil {
			return err
		}
		s.reported(id, st, said.Report, report)
	case *agentpb.AgentMessage_Stats:
		if err := checkStats(said.Stats); err != nil {
			return err
		}
		s.counted(id, st, said.Stats)
	case *agentpb.AgentMessage_Trace:
		cleanTrace(said.Trace)
		s.traced(st, said.Trace)
	case *agentpb.AgentMessage_Goodbye:
		s.leaving(id, st)
	}
	return nil // what a newer agent may say is not for this hub
}

// by returns the agent if the stream is the one that counts. The lock is held.
func (s *Server) by(id health.Agent, st *stream) *agent {
	if a := s.agents[id]; a != nil && a.stream == st {
		return a
	}
	return nil
}

func (s *Server) reported(id health.Agent, st *stream, said *agentpb.Report, report health.Report) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.by(id, st); a != nil {
		a.report, a.reported = said, now
		s.metrics.reports.WithLabelValues(id.Cluster).Inc()
		if s.machine.Report(id, report, now) {
			s.wakeUp()
		}
	}
}

func (s *Server) counted(id health.Agent, st *stream, said *agentpb.Stats) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.by(id, st); a != nil {
		a.stats, a.counted = said, now
		for waiting := range s.told {
			select {
			case waiting <- struct{}{}:
			default:
			}
		}
	}
}

func (s *Server) leaving(id health.Agent, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.by(id, st); a != nil && !a.leaving {
		a.leaving = true
		s.machine.Goodbye(id)
		s.options.Log.Info("A gateway is leaving", "cluster", id.Cluster, "node", id.Node)
		s.wakeUp()
	}
}
