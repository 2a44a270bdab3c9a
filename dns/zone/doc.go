// Package zone is the name tree of the clusterset: which records a name has, for one asker.
//
// It is pure. Next makes a Tree from a clusterset.Snapshot, an Asker and Options, and shares everything with the tree before
// it that did not change. Static makes one from RFC 1035 zone files, for everything else that has names, and so that the
// answering code can be held against test corpora. Trees never change, and any number of goroutines may read one.
//
//	zone                names in it                              records
//	Options.ClusterSet  <zone>                                   SOA, NS
//	                    dns-version.<zone>                       TXT "1.0.0"
//	                    <svc>.<ns>.svc.<zone>                    A, AAAA, SRV
//	                    _<port>._<proto>.<svc>.<ns>.svc.<zone>   SRV
//	                    <host>.<cluster>.<svc>.<ns>.svc.<zone>   A, AAAA; headless services only
//	Options.External    <svc>.<ns>.<zone>                        A, AAAA of gateways
//	Options.KubeFed     <svc>.<ns>.<federation>.svc[.[<availability zone>.]<region>].<zone>
//	                                                             A, AAAA of gateways, or a CNAME to the next wider name
//	Options.PerCluster  <svc>.<ns>.<cluster>.<zone>              A, AAAA of the pods of the cluster, or of its gateways
//
// The first zone is that of the multi-cluster DNS schema 1.0.0 (KEP-1645); the others are opt-in. A name exists when it has
// records or a name below it exists (RFC 8020): the tree counts children, so there is nothing to forget.
//
// # Services with an address
//
// A and AAAA are the addresses of the derived Service in the asker's cluster; the data path behind them does the rest. SRV is
// for named ports only, at the port's name and, for clients that ask there, at the service's. As long as the asker's
// cluster has no derived Service, the name exists and has nothing (NODATA), and the ports' names do not exist: they would
// point nowhere. There are no PTR: derived Services have theirs from cluster DNS. That is also what somebody outside of all clusters gets.
//
// # Headless services
//
// All ready endpoints that the asker reaches at their own addresses, in all priorities of its View. What the View leaves
// out is left out here: clusters whose data plane is down, those that drain while others serve, those that the policy
// gives no weight. A control plane that does not answer leaves nothing out. Without any endpoint the name does not exist.
//
// An endpoint without a hostname gets one from its address, as cluster DNS does it: 10.1.2.3 is 10-1-2-3 and fd00::1 is
// fd00--1, with a 0 where a dash would be the first or the last. SRV lists endpoints times ports, with the port that the pod listens
// at, since nothing translates on the way to it.
//
// # Zones for outsiders
//
// They tell the same to everybody in a region, wherever the asker is: gateway addresses of the clusters in the first priority,
// as the View of a consumer outside of all clusters has them. So the order is that of the policy's failover, or else the nearest
// first. When the policy weighs clusters, the RRset carries weights, and a server should answer one address
// at a time, drawn by weight: all that a resolver keeps of an order is the set. A service of which nobody serves has no
// records (NODATA); one whose policy names its consumers has no names there, since nobody outside is one.
//
// # Serial numbers
//
// The serial of a zone's SOA is the number of a snapshot divided by clusterset.Step, modulo 2³²: of the snapshot in which
// the zone changed last, as far as the sequence of trees shows it, else of the one that the tree was made of. So it does not go back when
// a server starts again, and what did not change keeps it. Numbers are times, in units of 4.2 ms, and a secondary sees a larger serial in
// RFC 1982's arithmetic for 104 days without contact; SOA's expiry is 7. Where numbers are no multiples of the unit, or go back, Next counts
// on from the tree before, so that other records have another serial.
//
// # Zones inside of zones
//
// Each knows its own names. The one around has the zone cut: the NS of the zone inside, with addresses of servers that are below, in
// transfers; and in answers what is asked of the parent, which is DS (RFC 4035, section 3.1.4.1).
//
// # What does not fit
//
// A service whose name is no DNS label, or whose names would be longer than 255 octets, is left out, and Notes says so.
package zone
