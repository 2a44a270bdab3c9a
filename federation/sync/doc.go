// Package sync propagates federated objects to member clusters and reports what became of them.
//
// One Reconciler runs per FederatedTypeConfig. It has four lanes, each a work queue of its own:
//
//	hub lane        reads a federated object, computes what is wanted (placement, overrides, mode), adds the finalizer
//	member lanes    one Dispatcher per cluster: compares what is wanted with what its watch shows (plan.Make) and acts
//	status lane     once all clusters have answered: PropagatedVersion and status, one write each;
//	                it yields while the lanes before it have work
//	release lane    takes the finalizer off a federated object that has left its members
//
// Nothing in a lane waits for another cluster. A change in a member enters its member lane directly, so drift is
// repaired without a look at the hub. What the lanes share is one record per object, guarded by the Reconciler.
package sync
