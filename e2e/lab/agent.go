package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// podPrefix begins the target that names a Pod: "pod/CLUSTER/NAMESPACE/NAME".
const podPrefix = "pod/"

// agentTimeout bounds one request to the program of a node.
const agentTimeout = 10 * time.Second

// PodStatus is a Pod as the node that runs it sees it.
type PodStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Phase     string `json:"phase"`
	IP        string `json:"ip"`
	Ready     bool   `json:"ready"`
	RSS       int64  `json:"rssBytes"`
}

// errNoPod is an agent's answer about a Pod that it does not run.
var errNoPod = errors.New("no such pod on the node")

// pods lists the Pods of a node that runs.
func (n node) pods(ctx context.Context) ([]PodStatus, error) {
	var pods []PodStatus
	return pods, n.ask(ctx, http.MethodGet, "/pods", &pods)
}

// act does something to a Pod: kill, pause, resume.
func (n node) act(ctx context.Context, namespace, name, what string) error {
	return n.ask(ctx, http.MethodPost, "/pods/"+namespace+"/"+name+"/"+what, nil)
}

// ask makes one request to the node's control socket.
func (n node) ask(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return network.Dial(ctx, n.socket())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking node %s: %w", n.Name, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking node %s: %w", n.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return fmt.Errorf("asking node %s: %w", n.Name, err)
	case resp.StatusCode == http.StatusNotFound:
		return errNoPod
	case resp.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("node %s answers %s: %s", n.Name, resp.Status, lastLines(string(body), 5))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading the answer of node %s: %w", n.Name, err)
	}
	return nil
}

// onPod does something to a Pod, named CLUSTER/NAMESPACE/NAME, through the node that runs it.
func (l *Lab) onPod(ctx context.Context, target, what string) error {
	parts := strings.Split(target, "/")
	if len(parts) != 3 {
		return fmt.Errorf("pod %q: name it CLUSTER/NAMESPACE/NAME", target)
	}
	c, err := l.Cluster(parts[0])
	if err != nil {
		return err
	}
	if c.traffic == nil {
		return fmt.Errorf("lab %s runs no pods; make one that does with: hansa-lab up --traffic", l.opts.Name)
	}
	var silent []error
	for _, n := range c.nodes() {
		err := n.act(ctx, parts[1], parts[2], what)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errNoPod) {
			silent = append(silent, err)
		}
	}
	return errors.Join(append([]error{fmt.Errorf("pod %s/%s in cluster %s: %w on a node that answers", parts[1], parts[2], parts[0], ErrNotFound)}, silent...)...)
}
