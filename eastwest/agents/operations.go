package agents

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
)

const (
	// freshWait is how long gateways that were asked for Stats are waited for.
	freshWait = time.Second
	// shortestWatch is the least time between two answers of a Watch, and usualWatch what it is by itself.
	shortestWatch = 200 * time.Millisecond
	longestWatch  = time.Minute
	usualWatch    = time.Second
	// usualTrace is how long a probe may take, and longestTrace however long somebody asks for.
	usualTrace   = 5 * time.Second
	longestTrace = 30 * time.Second
	// traceSlack is how much longer than the probe itself its result is waited for.
	traceSlack = time.Second
)

// operations is the face of a Server to admins.
type operations struct {
	server *Server
	admit  func(context.Context) error
}

func (o operations) check(ctx context.Context) error {
	err := o.admit(ctx)
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.PermissionDenied, err.Error())
}

// ListGateways implements agentpb.OperationsServer.
func (o operations) ListGateways(ctx context.Context, _ *agentpb.ListGatewaysRequest) (*agentpb.ListGatewaysResponse, error) {
	if err := o.check(ctx); err != nil {
		return nil, err
	}
	o.server.mu.Lock()
	defer o.server.mu.Unlock()
	return &agentpb.ListGatewaysResponse{Gateways: o.server.listGateways(), Clusters: o.server.listClusters()}, nil
}

// ids returns the agents, sorted. The lock is held.
func (s *Server) ids() []health.Agent {
	ids := make([]health.Agent, 0, len(s.agents))
	for id := range s.agents {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b health.Agent) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node))
	})
	return ids
}

// listGateways returns those of agents, and then those that only the table has. The lock is held.
func (s *Server) listGateways() []*agentpb.Gateway {
	var list []*agentpb.Gateway
	own := map[health.Gateway]bool{}
	for _, id := range s.ids() {
		a := s.agents[id]
		at := health.Gateway{Cluster: id.Cluster, Addr: a.hello.tunnelAddr()}
		own[at] = true
		g := &agentpb.Gateway{
			Cluster: id.Cluster, Node: id.Node, Version: a.hello.Version, Outside: addrText(a.hello.Outside), Inside: addrText(a.hello.Inside),
			Passthrough: uint32(a.hello.Passthrough), Tunnel: uint32(a.hello.Tunnel), Connected: a.stream != nil, SinceMs: millis(a.since),
			ReportedMs: millis(a.reported), LocalProblem: a.report.GetLocalProblem(), Leaving: a.leaving,
		}
		s.addVerdict(g, at)
		list = append(list, g)
	}
	for _, at := range s.machine.Gateways() {
		if !own[at] {
			g := &agentpb.Gateway{Cluster: at.Cluster, Outside: at.Addr.Addr().String(), Tunnel: uint32(at.Addr.Port())}
			s.addVerdict(g, at)
			list = append(list, g)
		}
	}
	slices.SortStableFunc(list, func(a, b *agentpb.Gateway) int { return cmp.Compare(a.GetCluster(), b.GetCluster()) })
	return list
}

func (s *Server) addVerdict(g *agentpb.Gateway, at health.Gateway) {
	if v, known := s.machine.OfGateway(at); known && at.Addr != (netip.AddrPort{}) {
		g.Health, g.HealthSinceMs, g.Reason = encodeHealth(v.Health), millis(v.Since), v.Reason
	}
}

// listClusters returns the verdicts. The lock is held.
func (s *Server) listClusters() []*agentpb.ClusterHealth {
	connected := map[string]uint32{}
	for id, a := range s.agents {
		if a.stream != nil {
			connected[id.Cluster]++
		}
	}
	var list []*agentpb.ClusterHealth
	for _, id := range s.machine.Clusters() {
		v, _ := s.machine.OfCluster(id)
		list = append(list, &agentpb.ClusterHealth{
			Cluster: id, Health: encodeHealth(v.Health), SinceMs: millis(v.Since), Reason: v.Reason, Agents: connected[id],
		})
	}
	return list
}

// ListTunnels implements agentpb.OperationsServer.
func (o operations) ListTunnels(ctx context.Context, _ *agentpb.ListTunnelsRequest) (*agentpb.ListTunnelsResponse, error) {
	if err := o.check(ctx); err != nil {
		return nil, err
	}
	s := o.server
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &agentpb.ListTunnelsResponse{}
	for _, id := range s.ids() {
		a := s.agents[id]
		if a.stream == nil {
			continue // what it saw is no more
		}
		for _, sight := range a.report.GetSights() {
			answer.Tunnels = append(answer.Tunnels, &agentpb.Tunnel{Cluster: id.Cluster, Node: id.Node, Sight: sight, ReportedMs: millis(a.reported)})
		}
	}
	return answer, nil
}

// GetStats implements agentpb.OperationsServer.
func (o operations) GetStats(ctx context.Context, request *agentpb.StatsRequest) (*agentpb.StatsResponse, error) {
	if err := o.check(ctx); err != nil {
		return nil, err
	}
	if request.GetFresh() {
		o.server.askStats(ctx, request.GetCluster())
	}
	return &agentpb.StatsResponse{Agents: o.server.listStats(request.GetCluster())}, nil
}

// listStats returns what agents of a cluster have counted; of all if it is empty.
func (s *Server) listStats(cluster string) []*agentpb.AgentStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*agentpb.AgentStats
	for _, id := range s.ids() {
		if a := s.agents[id]; a.stats != nil && (cluster == "" || cluster == id.Cluster) {
			list = append(list, &agentpb.AgentStats{Cluster: id.Cluster, Node: id.Node, AtMs: millis(a.counted), Stats: a.stats})
		}
	}
	return list
}

// askStats has agents tell what they have counted, and waits until they have, or for freshWait.
func (s *Server) askStats(ctx context.Context, cluster string) {
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	told := make(chan struct{}, 1)
	asked := time.Now()
	s.mu.Lock()
	var waiting []health.Agent
	for id, a := range s.agents {
		if a.stream != nil && (cluster == "" || cluster == id.Cluster) && a.stream.tell(sendStats()) {
			waiting = append(waiting, id)
		}
	}
	s.told[told] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.told, told)
	}()
	for len(waiting) > 0 {
		select {
		case <-told:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		waiting = slices.DeleteFunc(waiting, func(id health.Agent) bool {
			a := s.agents[id]
			return a == nil || a.stream == nil || !a.counted.Before(asked)
		})
		s.mu.Unlock()
	}
}

func sendStats() *agentpb.HubMessage {
	return &agentpb.HubMessage{Message: &agentpb.HubMessage_Stats{Stats: &agentpb.SendStats{}}}
}

// Watch implements agentpb.OperationsServer.
func (o operations) Watch(request *agentpb.WatchRequest, out grpc.ServerStreamingServer[agentpb.WatchResponse]) error {
	ctx := out.Context()
	if err := o.check(ctx); err != nil {
		return err
	}
	s := o.server
	if !s.beginWatch() {
		return status.Errorf(codes.ResourceExhausted, "%d others watch already; end one of them", s.options.Limits.Watches)
	}
	defer s.endWatch()
	every := min(max(cmp.Or(time.Duration(request.GetEveryMs())*time.Millisecond, usualWatch), shortestWatch), longestWatch)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s.askStats(ctx, "")
		answer := &agentpb.WatchResponse{AtMs: time.Now().UnixMilli(), Agents: s.listStats("")}
		s.mu.Lock()
		answer.Clusters = s.listClusters()
		s.mu.Unlock()
		if err := out.Send(answer); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-s.drained:
			return errDraining
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if err := o.check(ctx); err != nil {
			return err
		}
	}
}

func (s *Server) beginWatch() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.watches >= s.options.Limits.Watches {
		return false
	}
	s.watches++
	return true
}

func (s *Server) endWatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches--
}

// Trace implements agentpb.OperationsServer.
func (o operations) Trace(ctx context.Context, r *agentpb.TraceRequest) (*agentpb.TraceResponse, error) {
	if err := o.check(ctx); err != nil {
		return nil, err
	}
	if r.GetNamespace() == "" || r.GetName() == "" || len(r.GetNamespace()) > maxLabel || len(r.GetName()) > maxName || len(r.GetPort()) > maxLabel {
		return nil, status.Error(codes.InvalidArgument, "which service is to be traced? Name its namespace and its name")
	}
	timeout := min(cmp.Or(time.Duration(r.GetTimeoutMs())*time.Millisecond, usualTrace), longestTrace)
	command := &agentpb.TraceCommand{
		Namespace: r.GetNamespace(), Name: r.GetName(), Port: r.GetPort(), TimeoutMs: uint32(timeout.Milliseconds()), //nolint:gosec // bounded above
	}
	node, result, err := o.server.command(r.GetCluster(), r.GetNode(), command)
	if err != nil {
		return nil, err
	}
	defer o.server.forgetTrace(command.GetId())
	timer := time.NewTimer(timeout + traceSlack)
	defer timer.Stop()
	select {
	case answer := <-result:
		return &agentpb.TraceResponse{Node: node, Hops: answer.GetHops(), Problem: answer.GetProblem()}, nil
	case <-timer.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "the gateway on node %s of cluster %s did not answer within %v", node, r.GetCluster(), timeout+traceSlack)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// command sends a command to an agent of a cluster, on the given node unless that is empty.
func (s *Server) command(cluster, node string, command *agentpb.TraceCommand) (on string, result <-chan *agentpb.TraceResult, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.traces) >= s.options.Limits.Traces {
		return "", nil, status.Errorf(codes.ResourceExhausted, "%d probes are on their way; try again when they are done", len(s.traces))
	}
	for _, id := range s.ids() {
		a := s.agents[id]
		if id.Cluster != cluster || node != "" && node != id.Node || a.stream == nil || a.leaving {
			continue
		}
		s.traceID++
		command.Id = s.traceID
		if !a.stream.tell(&agentpb.HubMessage{Message: &agentpb.HubMessage_Trace{Trace: command}}) {
			continue
		}
		answer := make(chan *agentpb.TraceResult, 1)
		s.traces[command.GetId()] = pendingTrace{a.stream, answer}
		return id.Node, answer, nil
	}
	what := "cluster " + cluster
	if node != "" {
		what = "node " + node + " of " + what
	}
	return "", nil, status.Errorf(codes.FailedPrecondition, "no gateway of %s is connected to this hub", what)
}

func (s *Server) forgetTrace(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.traces, id)
}

// pendingTrace is a probe that somebody waits for.
type pendingTrace struct {
	by     *stream // that was asked: nobody else may answer
	answer chan<- *agentpb.TraceResult
}

// traced hands a result to who waits for it.
func (s *Server) traced(st *stream, result *agentpb.TraceResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pending, ok := s.traces[result.GetId()]; ok && pending.by == st {
		pending.answer <- result // there is room for one
		delete(s.traces, result.GetId())
	}
}
