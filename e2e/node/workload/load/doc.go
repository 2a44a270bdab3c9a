// Package load sends requests to servers at a constant rate and tells what became of them, second by second; or asks
// one server until it answers.
//
// Targets are
//
//	http://HOST[:PORT]/PATH?QUERY    success is a status below 400, with the whole body
//	https://HOST[:PORT]/PATH?QUERY   the same, verified against Options.CAFile or the system's authorities
//	tcp://HOST:PORT                  the test server's lines: success is a line that comes back
//	udp://HOST:PORT                  the test server's datagrams: success is an answer that holds the one sent
//	grpc://HOST:PORT                 the test server's method Echo
//	grpcs://HOST:PORT                the same, encrypted
//	xds:///NAME:PORT                 the same as grpc, with servers that the control plane of the file GRPC_XDS_BOOTSTRAP
//	                                 names; only in programs that import google.golang.org/grpc/xds
//
// tcp, udp, grpc and xds targets may have a QUERY with the parameters of the test server, like delay=100ms.
//
// Names are resolved by the system's resolver for each new connection, and never remembered. A connection is used for
// one request at a time, except with HTTP/2 and gRPC, and kept for the next one unless Options.NewConnections is set.
// HTTP and gRPC repeat a request by themselves if a kept connection turns out to be closed before the server can have
// seen it; nothing else is repeated.
package load
