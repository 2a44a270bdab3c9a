// Package lab runs real Kubernetes control planes on one Linux machine, without containers and without root: a hub
// and any number of members, each an etcd, a kube-apiserver, a kube-controller-manager and a kube-scheduler of its
// own. The hansa-lab command, the end-to-end tests and the benchmarks are built on it.
//
// There are no kubelets: a Deployment gets its ReplicaSet and its Pods, and the Pods stay Pending.
//
// Everything a lab owns lies in one directory, and every process it starts carries that directory in its environment.
// So a lab can be taken down completely by any later process, also when the one that made it was killed half-way.
//
//	DIR/lab.json                 what the lab consists of; written first, removed last
//	DIR/kubeconfig               merged kubeconfig with a context per cluster (hub, m1, m2, …)
//	DIR/clusters/NAME/           ports, pki/, etcd/, logs/, run/ and audit.log of one cluster
//	DIR/programs/                records and logs of the programs started beside the clusters
//
// All servers listen on 127.0.0.1 and accept only clients with a certificate or a token; each cluster has a
// certificate authority and service-account keys of its own, so that credentials for one cluster mean nothing to
// another.
package lab
