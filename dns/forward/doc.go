// Package forward asks other name servers (upstreams: recursive resolvers) for what a server does not know itself, and
// remembers what they said for as long as they allow.
//
// One question of any number of clients is one question upstream. Upstreams are asked in the order given; one that failed
// is asked last for a while. What is under way, and what is remembered, is bounded.
package forward
