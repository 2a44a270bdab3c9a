package health

import (
	"cmp"
	"slices"
)

// room makes room for one more agent of a cluster, and tells whether there is any.
func (m *Machine) room(cluster string) bool {
	if m.count[cluster] < MaxAgents {
		return true
	}
	var others []witness
	for id, a := range m.agents {
		if id.Cluster == cluster {
			others = append(others, witness{id, a})
		}
	}
	oldest := slices.MinFunc(others, func(a, b witness) int {
		return cmp.Or(less(b.connected, a.connected), less(a.leaving, b.leaving), a.moved.Compare(b.moved), cmp.Compare(a.id.Node, b.id.Node))
	})
	if oldest.connected {
		return false
	}
	m.drop(oldest.id)
	return true
}

// drop forgets an agent.
func (m *Machine) drop(id Agent) {
	delete(m.agents, id)
	m.sorted = nil
	if m.count[id.Cluster]--; m.count[id.Cluster] == 0 {
		delete(m.count, id.Cluster)
	}
}

// less orders what is so before what is not.
func less(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
