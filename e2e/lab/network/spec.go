package network

import (
	"errors"
	"fmt"
)

// Spec is what a network process is told to make.
type Spec struct {
	Socket   string    `json:"socket"`         // path of the control socket
	Flat     bool      `json:"flat,omitempty"` // the pod ranges can be reached from other clusters too
	NFT      string    `json:"nft"`            // path of the program nft
	Clusters []Cluster `json:"clusters"`
}

// Cluster is one cluster of a Spec.
type Cluster struct {
	Name  string   `json:"name"`
	Index int      `json:"index"` // what its addresses are made of; see RouterIP
	Nodes []string `json:"nodes"` // names, in the order of their numbers, which begin with 1
	Port  int      `json:"port"`  // of the API server, to which connections to the cluster's listener are forwarded
}

// check tells what is wrong with the spec.
func (s Spec) check(listeners int) error {
	if s.Socket == "" || s.NFT == "" || len(s.Clusters) == 0 {
		return errors.New("the spec of the network needs socket, nft and clusters")
	}
	if listeners != len(s.Clusters) {
		return fmt.Errorf("%d clusters and %d listeners: there must be one for each", len(s.Clusters), listeners)
	}
	names, indexes := map[string]bool{}, map[int]bool{}
	for _, c := range s.Clusters {
		switch {
		case c.Index < 0 || c.Index >= maxClusters:
			return fmt.Errorf("cluster %s: index %d: it must be 0 to %d", c.Name, c.Index, maxClusters-1)
		case indexes[c.Index]:
			return fmt.Errorf("cluster %s: index %d is taken", c.Name, c.Index)
		case len(c.Nodes) > maxNodes:
			return fmt.Errorf("cluster %s: %d nodes are more than %d", c.Name, len(c.Nodes), maxNodes)
		case c.Port < 1 || c.Port > 65535:
			return fmt.Errorf("cluster %s: port %d: it must be 1 to 65535", c.Name, c.Port)
		}
		indexes[c.Index] = true
	}
	for _, name := range s.names() {
		if name == "" || names[name] {
			return fmt.Errorf("name %q of a cluster or node is empty or taken", name)
		}
		names[name] = true
	}
	return nil
}
