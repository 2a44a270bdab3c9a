// Package identity says who is who between clusters: certificates with SPIFFE IDs, who signs them, and how they are
// checked.
//
// There is one trust domain per hub. Its IDs are
//
//	spiffe://TRUSTDOMAIN/hub                    a hub that serves xDS
//	spiffe://TRUSTDOMAIN/admin                  a person or program that may look at everything
//	spiffe://TRUSTDOMAIN/cluster/CLUSTER/ROLE   somebody in a cluster, by the cluster's id
//
// and every other path is refused. An Authority signs. The hub's own is a root in the Secret AuthoritySecret, and below it
// an intermediate in IntermediateSecret, which signs everything else; the keys are there and nowhere else, so every replica
// of the hub signs with the same one. The leader's Keeper makes both when there is none, replaces them, and keeps Secrets
// with certificates for those who cannot ask for one. Instead, an external issuer may keep a Secret with an authority, or a
// SPIFFE Workload API may give certificates to everybody (Workload).
//
// A Server makes the hub's own certificates, which never leave its memory, and says how clients connect to it (HubClient).
// A Peering says how gateways connect to each other. Both refuse certificates that were revoked, and a RefusedError says why
// somebody was refused.
//
// Keys are never logged, and no error holds one.
package identity
