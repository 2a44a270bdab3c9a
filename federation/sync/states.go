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

// Ready reports whether the federated objects are known, so that propagation runs; else why not.
func (r *Reconciler) Ready() (bool, string) {
	state, message := r.feds.State()
	if r.feds.Synced() {
		return true, ""
	}
	return false, fmt.Sprintf("%s: %s", state, message)
}
