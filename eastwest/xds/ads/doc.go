// Package ads is the transport of an aggregated discovery service: it brings named, encoded resources to clients that
// speak xDS v3, and knows nothing of what the resources mean.
//
// A Source says which View a client sees, and keeps that view's resources up to date. Every stream remembers what its
// client was sent and what it said about it. Between the two there is only an index from names to streams: a change marks
// a name in the streams that asked for it, and each stream sends what a marked name says when its turn comes. So a client
// that is slow skips versions, and costs nobody else time or memory.
package ads
