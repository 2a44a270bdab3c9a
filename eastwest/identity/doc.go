// Package identity says who is who between clusters: certificates with SPIFFE IDs, who signs them, and how they are
// checked.
//
// There is one trust domain per hub. Its IDs are
//
//	spiffe://TRUSTDOMAIN/hub                    a hub that serves xDS
//	spiffe://TRUSTDOMAIN/admin                  a person or program that may look at everything
//	spiffe://TRUSTDOMAIN/cluster/CLUSTER/ROLE   somebody in a cluster, by the cluster's id
//
// and every other path is refused. An Authority signs; its key is kept in the Secret AuthoritySecret of the hub's
// namespace and nowhere else, so every replica of the hub signs with the same one. The leader's Keeper makes that Secret
// when there is none, and keeps Secrets with certificates for those who cannot ask for one. A Server makes the hub's own
// certificates, which never leave its memory.
//
// Keys are never logged, and no error holds one.
package identity
