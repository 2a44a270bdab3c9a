// Package endpoints writes the names of zones for outsiders as DNSEndpoints (externaldns.k8s.io/v1alpha1) into the host
// cluster, so that external-dns can publish them at a DNS provider.
//
// For and Make decide, and are pure; the Writer acts, on the leader only. The records are those of the same zone.Tree that a
// DNS server answers from, for an asker outside of all clusters whose region is not known: <svc>.<ns>.<zone> has the gateway
// addresses of the clusters in the first priority, as A and AAAA, with the TTL of the service.
//
//	name         <svc>.<ns>, in all zones together: one object for each service that has an address
//	namespace    that of the service, if the host cluster has it; else that of the hub
//	label        Label, with the namespace of the hub: what lacks it is neither changed nor deleted
//	entries      one for each zone and type, in the order of the zones. Fields beside dnsName, recordType, recordTTL and
//	             targets stay as they are found, so that an entry may say something to one provider
//
// Weights are left out: a resolver gets all addresses of a set. So are regions: which of them a provider tells apart, and how,
// is a setting of each provider.
//
// # What is not known
//
// An address that is published stays, though no service wants it, while it is a gateway's of a cluster that the hub is out
// of step with and that is not known to export the service (or whose endpoints were not read yet); while the id of a
// registered cluster is not known, any address that is no known cluster's stays. What is known to be down does not stay.
package endpoints
