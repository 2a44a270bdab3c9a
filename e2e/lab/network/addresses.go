package network

import "net/netip"

// MTU is that of every device of a lab.
const MTU = 1500

// RouterIP is the address of a cluster's namespace: the router of its nodes, and where its API server listens.
func RouterIP(cluster int) netip.Addr { return host(cluster, 1) }

// NodeIP is the address of a cluster's node, counted from 1.
func NodeIP(cluster, node int) netip.Addr { return host(cluster, firstNode+node) }

// NodeRange holds the addresses of a cluster's router and nodes. It can be reached from every cluster.
func NodeRange(cluster int) netip.Prefix { return netip.PrefixFrom(host(cluster, 0), 24) }

// PodRange holds the addresses of a cluster's pods. Other clusters can reach it in flat labs only.
func PodRange(cluster int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, octet(cluster), 0, 0}), 16)
}

// NodePodRange is the part of PodRange whose pods run on one node, counted from 1. Its first address is the node's own.
func NodePodRange(cluster, node int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, octet(cluster), octet(node), 0}), 24)
}

// ServiceRange holds the virtual addresses of a cluster's Services. No other cluster can reach it.
func ServiceRange(cluster int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, octet(firstServices + cluster), 0, 0}), 16)
}

// DNSIP is the address of the DNS Service of a cluster.
func DNSIP(cluster int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, octet(firstServices + cluster), 0, 10})
}

const (
	firstNode     = 10 // last octet of the address before that of the first node
	firstServices = 96 // second octet of the first cluster's ServiceRange; the pod ranges end before it
	maxClusters   = 51
	maxNodes      = 99
)

func host(cluster, last int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, octet(cluster), octet(last)})
}

// octet is a part of an address; Spec.check has seen to it that it is small.
func octet(n int) byte { return byte(n) } //nolint:gosec // G115: see above
