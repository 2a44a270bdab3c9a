// Package health makes one verdict on each gateway and each cluster from what several observers saw. It is pure: what
// happens and when are arguments, and what is to be looked at again, and when, is told.
//
// An observer is the agent of a gateway. It sees gateways of other clusters through its tunnels to them, and tells every
// second. The observers of one cluster have one voice together, because they share its fate.
//
//	an agent's word on a gateway                             counts
//	told less than Fresh ago                                 yes; else nothing that it said does
//	of its own cluster                                       no: "I am here" says nothing of how others reach it
//	but: its own gateway does not reach its cluster's pods   alone: Down
//	Unknown                                                  no
//	on a gateway that is not known                           no: neither for that gateway, nor as one that it sees
//	while it said goodbye                                    no
//	while it sees no known gateway of any other cluster      it is cut off itself: only as the last rows say
//
//	the voices of other clusters                             the gateway
//	one alone says anything, Down, contradicted              stays as it is: one against one
//	more than half say Down                                  is Down, once that has lasted for Down
//	more than half say Up                                    is Up, once that has lasted for Up (longer each time, if it flaps)
//	neither                                                  stays as it is
//	none but of those cut off, its cluster's agents well     stays as it is: the link is cut, not the cluster dead
//	none but of those cut off, its cluster's agents gone     is Down as above; not in the first moments of a hub, to which
//	                                                         agents have yet to come
//	none at all                                              stays as it is
//
// One voice alone is contradicted while an agent that says this gateway is its own is connected, told less than Fresh ago, and
// has nothing to complain of; where only the table has the gateway, while any agent of its cluster is so. It is taken as
// contradicted in the first moments of a hub, too, to which that agent has yet to come. So no cluster alone, with however
// many agents, makes a gateway Down whose agent is here and well, nor its cluster; it does when that agent is gone, silent,
// or complains. One that is Down stays so while the two contradict each other.
//
// With two clusters, each is the other's only observer, and sees nobody when it does not see the other. With more, one voice
// alone never takes a gateway out that another voice calls Up.
//
//	the gateways of a cluster                                the cluster
//	none is known                                            Unknown
//	one is Up                                                Up
//	all are Down                                             Down, unless all other clusters are: then it stays as it is
//	neither                                                  stays as it is
//
// A gateway is known when an agent of its cluster said so, or the hub's table has it. What observers say of others counts
// for nothing, also not for whether they are cut off. One whose agent said goodbye is not known: it is leaving, not dead. One
// whose agent is silent stays known until another agent of its cluster has been there for Forget.
package health
