// Package dns answers queries for global service names. A Responder is a listen.Handler; the names come from package
// zone, which makes them from snapshots of the service table, one tree for every view that askers have.
//
// There are two ways through it. A plain query (one question, class IN, at most an OPT with at most a cookie) for a name
// that has records or does not exist is answered from what zone has packed already: parsed by hand, looked up, copied,
// without allocating. Everything else is unpacked, answered and packed record by record with miekg's library.
// Tests hold that both ways give the same octets.
//
//	query                                    response
//	in a zone                                records; NODATA and NXDOMAIN with the SOA; referrals in static zones
//	outside                                  what an upstream says; without one REFUSED with EDE 20
//	before there is a snapshot               SERVFAIL with EDE 14
//	while nobody vouches for the snapshot    as ever, with EDE 3
//	more addresses than fit into UDP         as many as fit, others each time; all of them over TCP, up to 64 KiB. In static
//	                                         zones, and when they have to be signed, they are truncated (TC)
//	type ANY                                 records of one type (RFC 8482)
//	AXFR, IXFR                               for secondaries, with their TSIG key; others REFUSED
//	class CH                                 version.bind, hostname.bind and their kin, if given; others REFUSED
//	not a query, or not one question         NOTIMP, FORMERR
package dns
