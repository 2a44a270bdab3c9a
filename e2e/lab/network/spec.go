package network

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
