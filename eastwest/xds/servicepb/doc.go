// Package servicepb is the resource type that Hansa's own agents, DNS servers and gateways, subscribe to over xDS.
//
// The Go code is generated from service.proto by the program in gen, a module of its own because nothing else needs a
// compiler for protocol buffers: go run -C eastwest/xds/servicepb/gen .
package servicepb
