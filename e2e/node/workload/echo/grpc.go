package echo

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

// maxMessage bounds the padding of a message; clients take up to 4 MiB.
const maxMessage = 3 << 20

// grpcFront serves gRPC, encrypted or not.
type grpcFront struct {
	name     string
	state    *state
	listener *tracking
	server   *grpc.Server
}

func openGRPC(s *state, address string, secure *tls.Config) (front, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	f := &grpcFront{name: answer.GRPC, state: s, listener: &tracking{Listener: listener, open: map[string]net.Conn{}}}
	var options []grpc.ServerOption
	if secure != nil {
		f.name = answer.GRPCS
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	f.server = grpc.NewServer(options...)
	f.server.RegisterService(&service, f)
	grpc_health_v1.RegisterHealthServer(f.server, s.health)
	if err := reflect(f.server); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return f, nil
}

func (f *grpcFront) protocol() string { return f.name }
func (f *grpcFront) addr() net.Addr   { return f.listener.Addr() }

func (f *grpcFront) serve() error {
	err := f.server.Serve(f.listener)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

func (f *grpcFront) shutdown(ctx context.Context) {
	stop := context.AfterFunc(ctx, f.server.Stop)
	defer stop()
	f.server.GracefulStop()
	_ = f.listener.Close() // in case it was never served
}

// echoer is what the methods of the service are called on.
type echoer interface {
	echo(ctx context.Context, in *structpb.Struct) (*structpb.Struct, error)
}

// service describes the methods as generated code would.
var service = grpc.ServiceDesc{
	ServiceName: answer.Service,
	HandlerType: (*echoer)(nil),
	Metadata:    protoFile,
	Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: serveEcho}},
	Streams:     []grpc.StreamDesc{{StreamName: "Stream", Handler: serveStream, ServerStreams: true, ClientStreams: true}},
}

func serveEcho(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // context-as-argument: grpc's order
	in := new(structpb.Struct)
	if err := decode(in); err != nil {
		return nil, err
	}
	return server.(echoer).echo(ctx, in)
}

func serveStream(server any, stream grpc.ServerStream) error {
	for {
		in := new(structpb.Struct)
		err := stream.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := server.(echoer).echo(stream.Context(), in)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
}

func (f *grpcFront) echo(ctx context.Context, in *structpb.Struct) (*structpb.Struct, error) {
	a, client := f.describe(ctx)
	wish, err := fault.ParseQuery(parameters(in))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	plan := f.state.plan(f.name, wish)
	switch err := f.state.suffer(ctx, plan); {
	case errors.Is(err, errDropped):
		f.listener.drop(client)
		return nil, status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, errBusy):
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	case err != nil:
		return nil, status.FromContextError(err).Err()
	}
	if code := Code(plan.Status); code != codes.OK {
		return nil, status.Errorf(code, "%s was told to fail", a.Plain())
	}
	a.Echo = in.GetFields()["echo"].GetStringValue()
	if missing := min(wish.Size, maxMessage) - int64(len(a.JSON())); missing > 0 {
		a.Padding = strings.Repeat("x", int(missing))
	}
	out := new(structpb.Struct)
	if err := out.UnmarshalJSON(a.JSON()); err != nil {
		return nil, status.Errorf(codes.Internal, "making the answer: %v", err)
	}
	return out, nil
}

// describe returns the answer, and the address of the client.
func (f *grpcFront) describe(ctx context.Context) (answer.Answer, string) {
	call := &answer.Call{Metadata: map[string]string{}}
	call.Method, _ = grpc.Method(ctx)
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		call.Authority = strings.Join(md.Get(":authority"), ", ")
		call.Metadata = answer.Join(md)
	}
	var client, server string
	var secure *answer.TLS
	if p, ok := peer.FromContext(ctx); ok {
		client = p.Addr.String()
		server = p.LocalAddr.String()
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			secure = describeTLS(&info.State)
		}
	}
	a := f.state.answer(f.name, client, server)
	a.GRPC, a.TLS = call, secure
	return a, client
}

// parameters turns the fields of a message into those of a URL. Fields that are no plain values are left out.
func parameters(in *structpb.Struct) url.Values {
	values := url.Values{}
	for name, field := range in.GetFields() {
		switch v := field.GetKind().(type) {
		case *structpb.Value_StringValue:
			values.Set(name, v.StringValue)
		case *structpb.Value_BoolValue:
			values.Set(name, strconv.FormatBool(v.BoolValue))
		case *structpb.Value_NumberValue:
			values.Set(name, strconv.FormatFloat(v.NumberValue, 'f', -1, 64))
		}
	}
	return values
}

// Code translates an HTTP status to the code that a gRPC server would use for the same failure. What is below 400 is
// OK.
func Code(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.Aborted
	case http.StatusPreconditionFailed:
		return codes.FailedPrecondition
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return codes.DeadlineExceeded
	}
	switch {
	case httpStatus < 400:
		return codes.OK
	case httpStatus < 500:
		return codes.Unknown
	}
	return codes.Internal
}

// tracking is a listener that can drop one of its connections.
type tracking struct {
	net.Listener

	mu   sync.Mutex
	open map[string]net.Conn // by the client's address
}

// Accept waits for the next connection.
func (t *tracking) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[conn.RemoteAddr().String()] = conn
	return &tracked{Conn: conn, forget: t.forget}, nil
}

func (t *tracking) forget(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name := conn.RemoteAddr().String(); t.open[name] == conn {
		delete(t.open, name)
	}
}

// drop closes the connection with a client.
func (t *tracking) drop(client string) {
	t.mu.Lock()
	conn := t.open[client]
	t.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// tracked forgets itself when it is closed.
type tracked struct {
	net.Conn

	forget func(net.Conn)
}

// Close closes the connection.
func (c *tracked) Close() error {
	c.forget(c.Conn)
	return c.Conn.Close()
}
