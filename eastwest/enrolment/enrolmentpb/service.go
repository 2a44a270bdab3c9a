// Package enrolmentpb holds the messages and the gRPC services with which agents get and renew certificates. The messages
// are generated from enrolment.proto by eastwest/xds/servicepb/gen.
package enrolmentpb

import (
	"context"

	"google.golang.org/grpc"
)

// Full names of the calls.
const (
	EnrollMethod = "/hansa.dev.enrolment.v1.Enrolment/Enroll"
	RenewMethod  = "/hansa.dev.enrolment.v1.Certificates/Renew"
)

// file names the source of the descriptors for those who list services.
const file = "eastwest/enrolment/enrolmentpb/enrolment.proto"

// EnrolmentServer gives first certificates.
type EnrolmentServer interface {
	Enroll(ctx context.Context, request *EnrollRequest) (*Certificate, error)
}

// CertificatesServer renews certificates.
type CertificatesServer interface {
	Renew(ctx context.Context, request *RenewRequest) (*Certificate, error)
}

// RegisterEnrolmentServer adds a service to a server that asks for no client certificate.
func RegisterEnrolmentServer(registrar grpc.ServiceRegistrar, server EnrolmentServer) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: "hansa.dev.enrolment.v1.Enrolment", HandlerType: (*EnrolmentServer)(nil), Metadata: file,
		Methods: []grpc.MethodDesc{{MethodName: "Enroll", Handler: handler(EnrollMethod, EnrolmentServer.Enroll)}},
	}, server)
}

// RegisterCertificatesServer adds a service to a server that knows its clients by their certificates.
func RegisterCertificatesServer(registrar grpc.ServiceRegistrar, server CertificatesServer) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: "hansa.dev.enrolment.v1.Certificates", HandlerType: (*CertificatesServer)(nil), Metadata: file,
		Methods: []grpc.MethodDesc{{MethodName: "Renew", Handler: handler(RenewMethod, CertificatesServer.Renew)}},
	}, server)
}

// Enroll calls the service.
func Enroll(ctx context.Context, conn grpc.ClientConnInterface, request *EnrollRequest, options ...grpc.CallOption) (*Certificate, error) {
	answer := &Certificate{}
	if err := conn.Invoke(ctx, EnrollMethod, request, answer, options...); err != nil {
		return nil, err
	}
	return answer, nil
}

// Renew calls the service.
func Renew(ctx context.Context, conn grpc.ClientConnInterface, request *RenewRequest, options ...grpc.CallOption) (*Certificate, error) {
	answer := &Certificate{}
	if err := conn.Invoke(ctx, RenewMethod, request, answer, options...); err != nil {
		return nil, err
	}
	return answer, nil
}

// handler is what gRPC calls for a method: it reads the request, and passes interceptors if there are any.
func handler[Server, Request, Answer any](method string, call func(Server, context.Context, *Request) (*Answer, error)) grpc.MethodHandler {
	return func(server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		request := new(Request)
		if err := decode(request); err != nil {
			return nil, err
		}
		do := func(ctx context.Context, request any) (any, error) {
			return call(server.(Server), ctx, request.(*Request)) // gRPC checked both
		}
		if interceptor == nil {
			return do(ctx, request)
		}
		return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: server, FullMethod: method}, do)
	}
}
