// Package inbound serves what gateways of other clusters open: it connects them to a ready pod of the own cluster.
//
//	stream ─► who is it? ─► may its cluster use the service? ─► a pod acknowledges ─► accepted ─► both ways
//	             │                   │                              │
//	             └───────────────────┴──────── no: refused, with a code, at once; counted and logged
//
// A stream is accepted only when a pod has taken the connection: until then the other gateway may go elsewhere, since its
// client has lost nothing. Pods are found by racing, as package connect does it.
//
// Whether the own cluster is cordoned or draining is not asked: who opens a stream has looked at that.
package inbound
