// Package listen is the sockets of a name server: UDP in batches with one thread per core, TCP on the same port, TLS
// (RFC 7858) and HTTPS (RFC 8484). It hands queries to a Handler and sends back what that returns. Of DNS it knows
// nothing but the two octets of length before a message on TCP (RFC 1035, section 4.2.2).
//
// Nothing in here grows with what strangers send. Over UDP, the only queue is the kernel's: when queries arrive faster
// than they are answered, it drops them, and Stats counts them. Over streams, connections are limited in all and per
// peer, the one that was idle for longest makes room for a new one, and every wait has an end.
package listen
