package lab

import (
	"context"
	"encoding/json"
	"sync"
)

// Health is the state of a cluster as a whole.
type Health string

// States of a cluster.
const (
	Ready    Health = "ready"
	NotReady Health = "not ready" // all components run, the API server is not ready
	Degraded Health = "degraded"  // some components do not run
	OnHold   Health = "paused"    // some components are paused
	Stopped  Health = "stopped"   // no component runs
)

// Status is what a lab looks like at one moment.
type Status struct {
	Name       string          `json:"name"`
	Dir        string          `json:"dir"`
	Kubeconfig string          `json:"kubeconfig"`
	Complete   bool            `json:"complete"`          // false while it is being made, or if that was interrupted
	Clusters   []ClusterStatus `json:"clusters"`          // hub first
	Programs   []ProcessStatus `json:"programs"`          // by name
	Network    *ProcessStatus  `json:"network,omitempty"` // holds the networks of a lab with traffic
}

// ClusterStatus is the status of one cluster.
type ClusterStatus struct {
	Name       string          `json:"name"`
	State      Health          `json:"state"`
	Ready      bool            `json:"ready"`
	URL        string          `json:"url"`
	Version    string          `json:"version"` // of Kubernetes, as the API server says; "" if it does not answer
	RSS        int64           `json:"rssBytes"`
	Anonymous  int64           `json:"anonymousBytes"` // of RSS: what is not the shared binary or files
	PSS        int64           `json:"pssBytes"`       // like RSS, with shared pages in equal parts
	Components []ProcessStatus `json:"components"`     // in starting order
	Nodes      []NodeStatus    `json:"nodes,omitempty"`
}

// NodeStatus is the status of one node of a lab with traffic. Its memory is that of all its processes.
type NodeStatus struct {
	ProcessStatus

	Pods []PodStatus `json:"pods"` // none if the node does not answer
}

// ProcessStatus is the status of one process.
type ProcessStatus struct {
	Name      string   `json:"name"`
	State     Activity `json:"state"`
	PID       int      `json:"pid"` // 0 if it does not run
	RSS       int64    `json:"rssBytes"`
	Anonymous int64    `json:"anonymousBytes"`
	PSS       int64    `json:"pssBytes"`
	Log       string   `json:"log"`
}

// Status looks at all processes and asks all API servers, each for at most two seconds. The error is ErrNotFound if
// there is no such lab.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	m, err := l.manifest()
	if err != nil {
		return Status{}, err
	}
	clusters, err := l.Clusters()
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Name: l.opts.Name, Dir: l.dir, Kubeconfig: l.Kubeconfig(), Complete: m.Up,
		Clusters: make([]ClusterStatus, len(clusters)),
		Programs: []ProcessStatus{},
	}
	errs := make([]error, len(clusters))
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() { s.Clusters[i], errs[i] = c.status(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return Status{}, err
		}
	}
	if m.Traffic != nil {
		r, err := readRecord(l.networkRecord())
		if err != nil {
			return Status{}, err
		}
		s.Network = new(processStatus("network", r.Process, l.networkLog()))
	}
	programs, err := l.programs()
	if err != nil {
		return Status{}, err
	}
	for _, p := range programs {
		s.Programs = append(s.Programs, processStatus(p.Name, p.Process, p.Log))
	}
	return s, nil
}

func (c Cluster) status(ctx context.Context) (ClusterStatus, error) {
	s := ClusterStatus{Name: c.Name, URL: c.URL()}
	count := map[Activity]int{}
	for _, component := range c.Components() {
		r, err := readRecord(c.record(component))
		if err != nil {
			return ClusterStatus{}, err
		}
		p := processStatus(string(component), r.Process, c.Log(component))
		count[p.State]++
		s.RSS += p.RSS
		s.Anonymous += p.Anonymous
		s.PSS += p.PSS
		s.Components = append(s.Components, p)
	}
	for _, n := range c.nodes() {
		status, err := n.status(ctx)
		if err != nil {
			return ClusterStatus{}, err
		}
		count[status.State]++
		s.RSS += status.RSS
		s.Anonymous += status.Anonymous
		s.PSS += status.PSS
		s.Nodes = append(s.Nodes, status)
	}
	ready := false
	if s.Components[1].State == Running {
		ready, s.Version = c.ask(ctx)
	}
	switch {
	case count[Gone] == len(s.Components)+len(s.Nodes):
		s.State = Stopped
	case count[Paused] > 0:
		s.State = OnHold
	case count[Gone] > 0:
		s.State = Degraded
	case ready:
		s.State = Ready
	default:
		s.State = NotReady
	}
	s.Ready = s.State == Ready
	return s, nil
}

// status looks at all processes of the node, and asks it for its Pods.
func (n node) status(ctx context.Context) (NodeStatus, error) {
	r, err := readRecord(n.record())
	if err != nil {
		return NodeStatus{}, err
	}
	s := NodeStatus{ProcessStatus: processStatus(n.Name, r.Process, n.log()), Pods: []PodStatus{}}
	if s.State == Gone {
		return s, nil
	}
	for _, p := range descendants(r.PID) {
		resident, anonymous := p.Memory()
		s.RSS += resident
		s.Anonymous += anonymous
		s.PSS += p.Share()
	}
	if s.State == Running {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		if pods, err := n.pods(ctx); err == nil {
			s.Pods = pods
		}
	}
	return s, nil
}

// ask returns whether the API server is ready, and its version, "" when it does not answer.
func (c Cluster) ask(ctx context.Context) (ready bool, version string) {
	probe, err := c.prober()
	if err != nil {
		return false, ""
	}
	defer probe.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if body, err := get(ctx, probe, c.URL()+"/version"); err == nil {
		var v struct {
			GitVersion string `json:"gitVersion"`
		}
		if json.Unmarshal(body, &v) == nil {
			version = v.GitVersion
		}
	}
	_, err = get(ctx, probe, c.URL()+"/readyz")
	return err == nil, version
}

func processStatus(name string, p Process, log string) ProcessStatus {
	s := ProcessStatus{Name: name, State: p.Activity(), Log: log}
	if s.State != Gone {
		s.PID = p.PID
		s.RSS, s.Anonymous = p.Memory()
		s.PSS = p.Share()
	}
	return s
}
