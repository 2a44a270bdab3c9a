package sync

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hansa-dev/hansa/federation/cluster"
)

// ClusterState says how propagation of one type stands with one member.
type ClusterState struct {
	Name    string
	State   cluster.WatchState
	Message string
}

// Clusters returns the state of every member, sorted by name.
func (r *Reconciler) Clusters() []ClusterState {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]ClusterState, 0, len(r.dispatchers))
	for _, name := range slices.Sorted(maps.Keys(r.dispatchers)) {
		state, message := r.dispatchers[name].state()
		list = append(list, ClusterState{Name: name, State: state, Message: message})
	}
	return list
}

// Ready reports whether what the host holds is known, so that propagation runs; else why not.
func (r *Reconciler) Ready() (bool, string) {
	if !r.feds.Synced() {
		state, message := r.feds.State()
		return false, fmt.Sprintf("%s in the host cluster are not listed (%s): %s", r.kind.federated.Resource, state, message)
	}
	return r.host.synced()
}
