package echo_test

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
)

func connect(t *testing.T, r *running, protocol string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.at(protocol), grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func invoke(t *testing.T, conn *grpc.ClientConn, fields map[string]any) (answer.Answer, error) {
	t.Helper()
	request, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	got := new(structpb.Struct)
	if err := conn.Invoke(bounded(t), answer.Method, request, got); err != nil {
		return answer.Answer{}, err
	}
	data, err := got.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data), nil
}

func TestGRPC(t *testing.T) {
	r := serve(t, nil)
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	a, err := invoke(t, conn, map[string]any{"echo": "hello", "delay": "1ms", "size": 1000, "status": "200", "ignored": nil})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name() != "m1/z/p" || a.Echo != "hello" || a.Protocol != answer.GRPC || a.Requests != 1 || len(a.Padding) == 0 ||
		a.GRPC.Method != answer.Method || a.GRPC.Authority != r.at(answer.GRPC) || a.Server != r.at(answer.GRPC) {
		t.Errorf("the answer is %s", a.JSON())
	}
	if a.GRPC.Metadata["content-type"] != "application/grpc" {
		t.Errorf("metadata is %v", a.GRPC.Metadata)
	}
}

func TestGRPCFaults(t *testing.T) {
	r := serve(t, func(c *echo.Config) { c.MaxWaiting = 0 })
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	tests := []struct {
		reason string
		fields map[string]any
		want   codes.Code
	}{
		{"a failure", map[string]any{"status": 503}, codes.Unavailable},
		{"another", map[string]any{"status": "404"}, codes.NotFound},
		{"a connection that is closed", map[string]any{"drop": true}, codes.Unavailable},
		{"after which the next request is served again", map[string]any{"drop": false}, codes.OK},
		{"a wrong parameter", map[string]any{"status": "abc"}, codes.InvalidArgument},
		{"too many wait", map[string]any{"hang": true}, codes.ResourceExhausted},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if _, err := invoke(t, conn, test.fields); status.Code(err) != test.want {
				t.Errorf("the code is %s (%v), want %s", status.Code(err), err, test.want)
			}
		})
	}
	tell(t, r, `{"fail":429,"protocols":["grpc"]}`)
	if _, err := invoke(t, conn, nil); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a server that was told to fail gives %v, want ResourceExhausted", err)
	}
}

func TestGRPCHang(t *testing.T) {
	r := serve(t, nil)
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	ctx, cancel := context.WithCancel(t.Context())
	request, err := structpb.NewStruct(map[string]any{"hang": true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- conn.Invoke(ctx, answer.Method, request, new(structpb.Struct)) }()
	eventually(t, "the call hangs", func() bool { return r.Waiting() == 1 })
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the call ends with %v", err)
	}
	eventually(t, "its place is free", func() bool { return r.Waiting() == 0 })
}

func TestCode(t *testing.T) {
	for http, want := range map[int]codes.Code{
		0: codes.OK, 204: codes.OK, 400: codes.InvalidArgument, 401: codes.Unauthenticated, 403: codes.PermissionDenied,
		404: codes.NotFound, 409: codes.Aborted, 412: codes.FailedPrecondition, 418: codes.Unknown, 429: codes.ResourceExhausted,
		500: codes.Internal, 501: codes.Unimplemented, 502: codes.Unavailable, 503: codes.Unavailable, 504: codes.DeadlineExceeded,
	} {
		if got := echo.Code(http); got != want {
			t.Errorf("HTTP %d is %s, want %s", http, got, want)
		}
	}
}

func TestGRPCStream(t *testing.T) {
	r := serve(t, nil)
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	stream, err := conn.NewStream(bounded(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+answer.Service+"/Stream")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		request, err := structpb.NewStruct(map[string]any{"echo": word})
		if err != nil {
			t.Fatal(err)
		}
		got := new(structpb.Struct)
		if err := stream.SendMsg(request); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(got); err != nil || got.GetFields()["echo"].GetStringValue() != word {
			t.Fatalf("%v comes back (%v), want %q in it", got, err, word)
		}
	}
}

func TestGRPCHealthFollowsReadiness(t *testing.T) {
	r := serve(t, nil)
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	check := func(service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
		got, err := grpc_health_v1.NewHealthClient(conn).Check(bounded(t), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetStatus()
	}
	for _, service := range []string{"", answer.Service} {
		for control, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
			`{"ready":true}`:  grpc_health_v1.HealthCheckResponse_SERVING,
			`{"ready":false}`: grpc_health_v1.HealthCheckResponse_NOT_SERVING,
			`{"fail":503}`:    grpc_health_v1.HealthCheckResponse_SERVING,
		} {
			tell(t, r, control)
			if got := check(service); got != want {
				t.Errorf("after %s the health of %q is %s, want %s", control, service, got, want)
			}
		}
	}
}

func TestGRPCReflection(t *testing.T) {
	r := serve(t, nil)
	conn := connect(t, r, answer.GRPC, insecure.NewCredentials())
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	list := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, answer.Service) || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("services are %v", names)
	}
	described := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: answer.Service},
	}).GetFileDescriptorResponse().GetFileDescriptorProto()
	if len(described) == 0 {
		t.Fatal("the service is not described")
	}
	file := new(descriptorpb.FileDescriptorProto)
	if err := proto.Unmarshal(described[0], file); err != nil {
		t.Fatal(err)
	}
	if methods := file.GetService()[0].GetMethod(); len(methods) != 2 || methods[0].GetName() != "Echo" || !methods[1].GetServerStreaming() {
		t.Errorf("methods are %v", methods)
	}
}

func TestGRPCS(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	r := serve(t, func(c *echo.Config) {
		c.GRPCS = "127.0.0.1:0"
		c.CertFile, c.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	})
	conn := connect(t, r, answer.GRPCS, credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "example.com"}))
	a, err := invoke(t, conn, nil)
	if err != nil || a.Protocol != answer.GRPCS || a.TLS == nil || a.TLS.ServerName != "example.com" {
		t.Errorf("the answer is %s (%v)", a.JSON(), err)
	}
}
