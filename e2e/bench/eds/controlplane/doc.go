// Package controlplane is a reference: a control plane made of the usual parts, in a process of its own. Typed informers of
// client-go hold the Services and EndpointSlices of all members; caches and the server of go-control-plane serve what clients
// ask for.
//
// It does nothing that it need not. What it serves it takes once, ready-made, from the server that it is compared with, for
// each kind of client; from then on it only replaces addresses in assignments, as EndpointSlices change. All changes that have
// come meanwhile go into its caches at once. It works out no order of endpoints, and writes nothing.
package controlplane
