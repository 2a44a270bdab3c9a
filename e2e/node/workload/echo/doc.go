// Package echo is the lab's test server. It answers over HTTP, TCP, UDP and gRPC with who and where it is (package
// answer), and misbehaves when told to (package fault).
//
// # HTTP, HTTPS
//
// HTTP/1.1 and HTTP/2, the latter also without encryption.
//
//	ANY  /PATH      the answer; the request's body is read, counted and dropped
//	POST /echo      the request's body, as it arrives
//	GET  /bytes?n=  n bytes, for measuring throughput
//	GET  /live      200 while the process serves
//	GET  /ready     200 while the server is ready, else 503
//	GET  /control   what the server was told to do (package fault), as JSON
//	PUT  /control   tell it; fields that are absent get their usual values, so {} ends all faults
//	PATCH /control  the same, but fields that are absent stay as they are
//	DELETE /control the same as PUT of {}
//	GET  /requests  the requests that had a name (X-Request-Id), a line each: the name in quotes, and how often it came
//	DELETE /requests forget them
//
// Requests, except to /live, /ready and /control, may carry the parameters status=, delay=, hang, drop, close, plain
// and size=: see fault.Wish. An answer with a wrong parameter or control is 400 and {"error": "…"}.
//
// # TCP
//
// The server first says who it is, in one line of JSON, and then sends every line back. A line "?PARAMETERS", such as
// "?delay=100ms", is answered by another line of JSON instead. A connection that is to fail is closed without a word,
// one that is to drop is reset, and one that is to hang is accepted and stays silent.
//
// # UDP
//
// Each datagram is answered by one line of JSON that holds the datagram's text as "echo". A datagram may begin with a
// line "?PARAMETERS". If it is to fail, hang or drop, nothing is sent.
//
// # gRPC
//
// The service hansa.workload.v1.Echo has the methods Echo, and Stream of which each message is answered in turn. They
// take a google.protobuf.Struct with the parameters as fields (close and plain have no meaning) and any text in the
// field "echo", and return the answer as a google.protobuf.Struct. A status to fail with is translated from HTTP to gRPC (503: Unavailable, 404: NotFound,
// and so on). The health service and reflection are served as well.
//
// # Bounds
//
// At most Config.MaxWaiting requests delay or hang at a time; further ones fail at once. Request bodies, lines,
// messages and answers have sizes that cannot exhaust the memory.
package echo
