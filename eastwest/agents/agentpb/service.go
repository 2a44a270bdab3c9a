// Package agentpb holds the messages and the gRPC services by which agents of gateways and hubs talk, and by which admins
// ask hubs what agents said. The messages are generated from agent.proto by eastwest/xds/servicepb/gen.
package agentpb

import (
	"context"

	"google.golang.org/grpc"
)

// Full names of the services and the calls.
const (
	AgentsService      = "hansa.dev.agents.v1.Agents"
	OperationsService  = "hansa.dev.agents.v1.Operations"
	ConnectMethod      = "/" + AgentsService + "/Connect"
	ListGatewaysMethod = "/" + OperationsService + "/ListGateways"
	ListTunnelsMethod  = "/" + OperationsService + "/ListTunnels"
	GetStatsMethod     = "/" + OperationsService + "/GetStats"
	TraceMethod        = "/" + OperationsService + "/Trace"
	WatchMethod        = "/" + OperationsService + "/Watch"
)

// file names the source of the descriptors for those who list services.
const file = "eastwest/agents/agentpb/agent.proto"

// ConnectServer is the hub's end of Agents.Connect.
type ConnectServer = grpc.BidiStreamingServer[AgentMessage, HubMessage]

// ConnectClient is the agent's end of Agents.Connect.
type ConnectClient = grpc.BidiStreamingClient[AgentMessage, HubMessage]

// AgentsServer talks with agents.
type AgentsServer interface {
	Connect(stream ConnectServer) error
}

// OperationsServer answers admins.
type OperationsServer interface {
	ListGateways(ctx context.Context, request *ListGatewaysRequest) (*ListGatewaysResponse, error)
	ListTunnels(ctx context.Context, request *ListTunnelsRequest) (*ListTunnelsResponse, error)
	GetStats(ctx context.Context, request *StatsRequest) (*StatsResponse, error)
	Trace(ctx context.Context, request *TraceRequest) (*TraceResponse, error)
	Watch(request *WatchRequest, stream grpc.ServerStreamingServer[WatchResponse]) error
}

// RegisterAgentsServer adds the service to a server that knows its clients by their certificates.
func RegisterAgentsServer(registrar grpc.ServiceRegistrar, server AgentsServer) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: AgentsService, HandlerType: (*AgentsServer)(nil), Metadata: file,
		Streams: []grpc.StreamDesc{connectDesc(func(server any, stream grpc.ServerStream) error {
			return server.(AgentsServer).Connect(&grpc.GenericServerStream[AgentMessage, HubMessage]{ServerStream: stream}) // gRPC checked it
		})},
	}, server)
}

func connectDesc(handler grpc.StreamHandler) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: "Connect", Handler: handler, ServerStreams: true, ClientStreams: true}
}

func watchDesc(handler grpc.StreamHandler) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: "Watch", Handler: handler, ServerStreams: true}
}

// RegisterOperationsServer adds the service to a server that knows its clients by their certificates.
func RegisterOperationsServer(registrar grpc.ServiceRegistrar, server OperationsServer) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: OperationsService, HandlerType: (*OperationsServer)(nil), Metadata: file,
		Methods: []grpc.MethodDesc{
			{MethodName: "ListGateways", Handler: handler(ListGatewaysMethod, OperationsServer.ListGateways)},
			{MethodName: "ListTunnels", Handler: handler(ListTunnelsMethod, OperationsServer.ListTunnels)},
			{MethodName: "GetStats", Handler: handler(GetStatsMethod, OperationsServer.GetStats)},
			{MethodName: "Trace", Handler: handler(TraceMethod, OperationsServer.Trace)},
		},
		Streams: []grpc.StreamDesc{watchDesc(func(server any, stream grpc.ServerStream) error {
			request := &WatchRequest{}
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			return server.(OperationsServer).Watch(request, &grpc.GenericServerStream[WatchRequest, WatchResponse]{ServerStream: stream}) // gRPC checked it
		})},
	}, server)
}

// handler is what gRPC calls for a method: it reads the request, and passes interceptors if there are any.
func handler[Request, Answer any](method string, call func(OperationsServer, context.Context, *Request) (*Answer, error)) grpc.MethodHandler {
	return func(server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		request := new(Request)
		if err := decode(request); err != nil {
			return nil, err
		}
		do := func(ctx context.Context, request any) (any, error) {
			return call(server.(OperationsServer), ctx, request.(*Request)) // gRPC checked both
		}
		if interceptor == nil {
			return do(ctx, request)
		}
		return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: server, FullMethod: method}, do)
	}
}

// Connect opens the stream of an agent.
func Connect(ctx context.Context, conn grpc.ClientConnInterface, options ...grpc.CallOption) (ConnectClient, error) {
	desc := connectDesc(nil)
	stream, err := conn.NewStream(ctx, &desc, ConnectMethod, options...)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[AgentMessage, HubMessage]{ClientStream: stream}, nil
}

// Operations calls the service for admins.
type Operations struct{ Conn grpc.ClientConnInterface }

// ListGateways calls the service.
func (o Operations) ListGateways(ctx context.Context, request *ListGatewaysRequest, options ...grpc.CallOption) (*ListGatewaysResponse, error) {
	return invoke[ListGatewaysResponse](ctx, o.Conn, ListGatewaysMethod, request, options)
}

// ListTunnels calls the service.
func (o Operations) ListTunnels(ctx context.Context, request *ListTunnelsRequest, options ...grpc.CallOption) (*ListTunnelsResponse, error) {
	return invoke[ListTunnelsResponse](ctx, o.Conn, ListTunnelsMethod, request, options)
}

// GetStats calls the service.
func (o Operations) GetStats(ctx context.Context, request *StatsRequest, options ...grpc.CallOption) (*StatsResponse, error) {
	return invoke[StatsResponse](ctx, o.Conn, GetStatsMethod, request, options)
}

// Trace calls the service.
func (o Operations) Trace(ctx context.Context, request *TraceRequest, options ...grpc.CallOption) (*TraceResponse, error) {
	return invoke[TraceResponse](ctx, o.Conn, TraceMethod, request, options)
}

// Watch calls the service. The stream ends with ctx.
func (o Operations) Watch(ctx context.Context, request *WatchRequest, options ...grpc.CallOption) (grpc.ServerStreamingClient[WatchResponse], error) {
	desc := watchDesc(nil)
	stream, err := o.Conn.NewStream(ctx, &desc, WatchMethod, options...)
	if err != nil {
		return nil, err
	}
	opened := &grpc.GenericClientStream[WatchRequest, WatchResponse]{ClientStream: stream}
	if err := opened.SendMsg(request); err != nil {
		return nil, err
	}
	if err := opened.CloseSend(); err != nil {
		return nil, err
	}
	return opened, nil
}

func invoke[Answer any](ctx context.Context, conn grpc.ClientConnInterface, method string, request any, options []grpc.CallOption) (*Answer, error) {
	answer := new(Answer)
	if err := conn.Invoke(ctx, method, request, answer, options...); err != nil {
		return nil, err
	}
	return answer, nil
}
