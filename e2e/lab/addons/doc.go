// Package addons knows the objects that every cluster of a lab with traffic gets beside those that Kubernetes makes
// itself: CoreDNS as the cluster's DNS, and the rights of nodes. It also knows what kwok does in a member that has neither.
//
// # Names
//
// CoreDNS answers for three zones, each a block of its own in the Corefile:
//
//   - cluster.local and the reverse zones, from the cluster's API. Answers are not cached, for the tests of a lab ask
//     how soon a change is seen; clients may keep them for 5 s, negative ones too.
//   - clusterset.local, the zone of multi-cluster Services, from the server at ClusterSetDNS: Hansa's, which whoever wants
//     such names starts on the cluster's first node. CoreDNS adds and keeps nothing, so what is to be seen through it is
//     what the server says. With no server the answer is SERVFAIL, in a millisecond or so, for nothing listens there;
//     NXDOMAIN would say that the Services do not exist, and clients may keep that.
//   - the rest, the root, which is empty as well: the lab has no way out, so there is no upstream server to forward to,
//     and NXDOMAIN is the truth about any other name. SERVFAIL or REFUSED would make resolvers report a broken server,
//     and try again, for a name that is merely misspelt.
//
// There is no loop detection, since nothing is forwarded but to a server that asks nobody.
//
// # Rights of nodes
//
// A lab's nodes are members of the group system:nodes, as kubelets are, but the lab has neither the Node authorizer nor
// the NodeRestriction admission plugin, which hold a kubelet to its own node and the Pods that are bound to it. So the
// role of nodes is wider than a kubelet's rights in that any node may
//
//   - read every Pod of its cluster, and every Secret and ConfigMap whose name it knows; it cannot list those two;
//   - make tokens of every ServiceAccount, not only of those whose Pods it runs, and with them do what any of those may;
//   - change any Node's and any Pod's status and any node's lease, make Nodes, and delete any Pod.
//
// That makes a node as mighty as an administrator of its cluster. In a lab it is: all nodes run the same program, as the
// same user, from one directory that holds the administrators' keys too. It has no power over another cluster.
//
// The role is narrower where a kubelet does what these nodes do not: no change of a Node but of its status, no storage
// (volumes and claims, CSI), no certificate requests, no runtime classes, no device claims, no Pods of the node's own
// making, no evictions, no reviews of tokens or access, since the nodes' own servers accept the API server only.
//
// # Fake nodes
//
// A member that is only an API server, for tests with very many, can be given nodes by kwok: those with FakeNodeLabel
// are ready at once, what is bound to them runs at once, and Deployments say that all their replicas are available. No
// controllers are there: nothing makes Pods of a Deployment, no Namespace ever ends, and nobody collects garbage.
package addons
