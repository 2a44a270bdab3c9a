// Package transfer gives zones to secondary servers: AXFR (RFC 5936), IXFR (RFC 1995) and NOTIFY (RFC 1996), with TSIG
// (RFC 8945).
//
// Who has the key of a named secondary gets every zone, and nobody else any. A secondary that is behind gets what changed
// since, when the tree that it has is still known, and otherwise the whole zone. The only algorithm is hmac-sha256, the one
// that everybody has.
package transfer
