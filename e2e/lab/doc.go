// Package lab runs real Kubernetes clusters on one Linux machine, without containers and without root: a hub and any
// number of members, each an etcd, a kube-apiserver, a kube-controller-manager and a kube-scheduler of its own. The
// hansa-lab command, the end-to-end tests and the benchmarks are built on it.
//
// Without traffic there are no nodes: a Deployment gets its ReplicaSet and its Pods, and the Pods stay Pending. With it,
// each cluster has network namespaces of its own and nodes that run Pods as processes; package network describes how
// they are wired, docs/adr/0009 why.
//
// Everything a lab owns lies in one directory, and every process it starts carries that directory in its environment.
// So a lab can be taken down completely by any later process, also when the one that made it was killed half-way.
//
//	DIR/lab.json                 what the lab consists of; written first, removed last
//	DIR/kubeconfig               merged kubeconfig with a context per cluster (hub, m1, m2, …)
//	DIR/clusters/NAME/           ports, pki/, etcd/, logs/, run/ and audit.log of one cluster; nodes/ with traffic
//	DIR/network/                 the process that holds the namespaces, its log and its control socket; with traffic
//	DIR/kubeconfig.inside        like kubeconfig, with the addresses that are valid in the lab's networks; with traffic
//	DIR/programs/                records and logs of the programs started beside the clusters
//
// All servers that the host can reach listen on 127.0.0.1, and all servers accept only clients with a certificate or a
// token; each cluster has a certificate authority and service-account keys of its own, so that credentials for one
// cluster mean nothing to another.
package lab
