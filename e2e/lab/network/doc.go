// Package network makes the networks of a lab whose pods run, out of network namespaces of the kernel, and connects them.
// It is a process of its own (Run); others talk to it through its control socket (Client).
//
//	 host                 the network process: its own namespace is the WAN
//	┌───────────────┐    ┌───────────────────────────────────────────────────────────────────────────┐
//	│ 127.0.0.1:P ──┼──► │ forwarder ····► 127.0.0.1:P of a cluster    control.sock ──► links, state │
//	└───────────────┘    │               c0 ◄──── package wan, link by link ────► c1                 │
//	                     └───────────────┼────────────────────────────────────────┼──────────────────┘
//	 cluster 0: router, control plane    │             cluster 1                  │
//	┌────────────────────────────────────┼───────┐    ┌───────────────────────────┼────────────────┐
//	│ lo  API server, port P            wan      │    │                          wan               │
//	│                 default route ─────┘       │    │                                            │
//	│ bridge nodes 172.20.0.1/24                 │    │ bridge nodes 172.20.1.1/24                 │
//	│   ├── n1 ──┐              ├── n2 ──┐       │    │   ├── n1 ──┐                               │
//	└────────────┼───────────────────────┼───────┘    └────────────┼───────────────────────────────┘
//	 node c0-n1  │            node c0-n2 │             node c1-n1  │
//	┌────────────┼───────┐   ┌───────────┼────────┐   ┌────────────┼───────┐
//	│ eth0 172.20.0.11   │   │ eth0 172.20.0.12   │   │ eth0 172.20.1.11   │
//	│ pods 10.0.1.1/24   │   │ pods 10.0.2.1/24   │   │ pods 10.1.1.1/24   │  a bridge that the node itself makes
//	└────────────────────┘   └────────────────────┘   └────────────────────┘
//
// Every line is a pair of veth devices; none leads to the host. The only ways in are namespaces, which whoever started the
// process can enter by the files in State.Namespaces, and the forwarders, whose listeners the process inherits. A node's
// default route is its cluster's router, and that one's is the WAN.
//
// Nodes and routers of all clusters reach one another. What a pod sends out of its cluster leaves with the address of its
// node (nft table hansa-lab); in flat labs, pods of different clusters see one another's own addresses. Nothing else
// crosses the WAN.
//
// Everything works as root and as the root of a user namespace. Namespaces are held by open files alone: when the process
// ends, however it ends, they go with all that is in them as soon as no process is left inside. IPv6 is off in all of them.
package network
