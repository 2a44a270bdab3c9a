// Package join registers a cluster with a hub and removes it again.
//
// In the member, Join creates a namespace, a ServiceAccount, what the hub may do there, and asks for a bound token; in
// the host, it stores the token in a Secret and registers a KubeFedCluster that refers to it. The KubeFedCluster comes
// last, once the new credentials have been tried, so that an interrupted join registers nothing and can be repeated.
// Unjoin goes the other way: the KubeFedCluster first, so that the hub stops using the member, then its credentials.
// Objects that the hub propagated stay in the member unless their deletion is asked for.
//
// Join also installs the Multi-Cluster Services API in the member, as far as nobody else has, for global services. Unjoin
// leaves it there.
//
// Names in the member are those of KubeFed v0.10 (ServiceAccount <member>-<host>, ClusterRole
// kubefed-controller-manager:<serviceaccount>), so that clusters which KubeFed joined can be unjoined.
package join
