package lab

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// How soon a lab notices that a node is dead: faster than Kubernetes' defaults, and with room for a machine that is busy
// with other things.
const (
	nodeLease  = 8 // seconds; a node renews four times as often
	nodeGrace  = 16 * time.Second
	nodePeriod = 2 * time.Second
	evictAfter = "30" // seconds after which the Pods of a dead node are made anew elsewhere
)

// node is one node of a cluster.
type node struct {
	Name string // "m1-n1", …

	cluster Cluster
	number  int // from 1 on
	dir     string
}

// nodeNames lists the nodes of the cluster in order.
func (c Cluster) nodeNames() []string {
	var names []string
	for _, n := range c.nodes() {
		names = append(names, n.Name)
	}
	return names
}

// nodes lists the nodes of the cluster in order; thin ones and those of a lab without traffic have none.
func (c Cluster) nodes() []node {
	if c.traffic == nil || c.thin {
		return nil
	}
	var nodes []node
	for k := range c.traffic.Nodes {
		name := c.Name + "-n" + strconv.Itoa(k+1)
		nodes = append(nodes, node{Name: name, cluster: c, number: k + 1, dir: filepath.Join(c.dir, "nodes", name)})
	}
	return nodes
}

// region is where the cluster stands; each of its nodes has a zone of its own there.
func (c Cluster) region() string {
	if region := c.traffic.Regions[c.Name]; region != "" {
		return region
	}
	return c.Name
}

// zone is the zone of the cluster's k-th node: m1-a, m1-b, …
func (c Cluster) zone(k int) string { return c.Name + "-" + "abcdefghi"[k-1:k] }

// nodeMonitorFlags are the flags of the controller manager that concern nodes.
func (c Cluster) nodeMonitorFlags() []string {
	if c.traffic == nil {
		return nil
	}
	return []string{
		"--node-monitor-period=" + nodePeriod.String(),
		"--node-monitor-grace-period=" + nodeGrace.String(),
	}
}

// InsideURL is where the cluster's API is served within the lab's networks.
func (c Cluster) InsideURL() string {
	return "https://" + net.JoinHostPort(network.RouterIP(c.index).String(), strconv.Itoa(c.ports.APIServer))
}

func (n node) record() string              { return filepath.Join(n.dir, "process.json") }
func (n node) log() string                 { return filepath.Join(n.dir, "node.log") }
func (n node) file(name string) string     { return filepath.Join(n.dir, name) }
func (n node) socket() string              { return filepath.Join(n.state(), "agent.sock") }
func (n node) state() string               { return filepath.Join(n.dir, "state") }
func (n node) address() string             { return network.NodeIP(n.cluster.index, n.number).String() }
func (n node) kubeconfig(of string) string { return n.file(of + ".kubeconfig") }

// nodeConfig is the configuration file of a node's program.
type nodeConfig struct {
	Cluster       string            `json:"cluster"`
	Name          string            `json:"name"`
	Kubeconfig    string            `json:"kubeconfig"`
	Address       string            `json:"address"`
	PodCIDR       string            `json:"podCIDR"`
	ClusterDNS    string            `json:"clusterDNS"`
	ClusterDomain string            `json:"clusterDomain"`
	LeaseSeconds  int               `json:"leaseSeconds"`
	Labels        map[string]string `json:"labels"`
	Capacity      map[string]string `json:"capacity"`
	StateDir      string            `json:"stateDir"`
	CertFile      string            `json:"certFile"`
	KeyFile       string            `json:"keyFile"`
	ClientCAFile  string            `json:"clientCAFile"`
	Shim          string            `json:"shim"`
	Images        []nodeImage       `json:"images"`
	Daemons       []nodeDaemon      `json:"daemons"`
}

// nodeImage says what the node runs for an image.
type nodeImage struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
}

// nodeDaemon is a program that the node keeps running beside its Pods.
type nodeDaemon struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Log     string   `json:"log"`
}

// prepare writes the node's credentials and configuration.
func (n node) prepare(m manifest) error {
	c := n.cluster
	pair, err := c.readPair("ca")
	if err != nil {
		return err
	}
	ca, err := loadAuthority(pair)
	if err != nil {
		return fmt.Errorf("reading the authority of cluster %s: %w", c.Name, err)
	}
	now := time.Now()
	serving, err := ca.server(now, n.Name, []string{n.Name}, []net.IP{network.NodeIP(c.index, n.number).AsSlice()})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"serving.crt": serving.Cert, "serving.key": serving.Key} {
		if err := writeFile(n.file(name), data); err != nil {
			return err
		}
	}
	for name, user := range map[string]func() (keyPair, error){
		"node":       func() (keyPair, error) { return ca.client(now, "system:node:"+n.Name, "system:nodes") },
		"kube-proxy": func() (keyPair, error) { return ca.client(now, "system:kube-proxy") },
	} {
		client, err := user()
		if err != nil {
			return err
		}
		if err := n.writeKubeconfig(n.kubeconfig(name), client); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(n.state(), 0o700); err != nil {
		return fmt.Errorf("preparing node %s: %w", n.Name, err)
	}
	return writeJSON(n.file("config.json"), n.config(m))
}

// writeKubeconfig writes credentials for the cluster's API as it is seen from the node.
func (n node) writeKubeconfig(path string, client keyPair) error {
	config := clientcmdapi.NewConfig()
	if err := n.cluster.addContext(config, client); err != nil {
		return err
	}
	config.Clusters[n.cluster.Name].Server = n.cluster.InsideURL()
	config.CurrentContext = n.cluster.Name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing a kubeconfig of node %s: %w", n.Name, err)
	}
	return writeFile(path, data)
}

func (n node) config(m manifest) nodeConfig {
	c := n.cluster
	beside := func(program string) string { return filepath.Join(filepath.Dir(m.Node), program) }
	workload := beside("workload")
	return nodeConfig{
		Cluster: c.Name, Name: n.Name, Kubeconfig: n.kubeconfig("node"),
		Address: n.address(), PodCIDR: network.NodePodRange(c.index, n.number).String(),
		ClusterDNS: network.DNSIP(c.index).String(), ClusterDomain: "cluster.local", LeaseSeconds: nodeLease,
		Labels: map[string]string{
			corev1.LabelTopologyRegion: c.region(),
			corev1.LabelTopologyZone:   c.zone(n.number),
		},
		Capacity: map[string]string{"cpu": "64", "memory": "64Gi", "pods": "250"},
		StateDir: n.state(), CertFile: n.file("serving.crt"), KeyFile: n.file("serving.key"), ClientCAFile: c.pki("ca.crt"),
		Shim: beside("shim"),
		Images: append(furtherImages(c.traffic.Images), []nodeImage{
			{Name: "echo", Command: []string{workload, "echo"}},
			{Name: "load", Command: []string{workload, "load"}},
			{Name: "xdsload", Command: []string{beside("xdsload"), "load"}},
			{Name: "pause", Command: []string{workload, "pause"}},
			{Name: "shell", Command: []string{"/bin/sh"}},
			{Name: "coredns", Command: []string{m.DNS}},
		}...),
		Daemons: []nodeDaemon{{Name: "kube-proxy", Command: n.proxy(), Log: n.file("kube-proxy.log")}},
	}
}

// furtherImages are those that the lab was made with, sorted. They come first: one may stand in for an image of the lab.
func furtherImages(programs map[string]string) []nodeImage {
	var images []nodeImage
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		images = append(images, nodeImage{Name: name, Command: []string{programs[name]}})
	}
	return images
}

// proxy is the command of the node's kube-proxy.
func (n node) proxy() []string {
	return []string{
		n.cluster.binary, "kube-proxy",
		"--kubeconfig=" + n.kubeconfig("kube-proxy"),
		"--hostname-override=" + n.Name,
		"--proxy-mode=nftables",
		"--cluster-cidr=" + network.PodRange(n.cluster.index).String(),
		"--nodeport-addresses=primary",
		"--metrics-bind-address=127.0.0.1:10249",
		// Limits of the kernel's connection tracking are the machine's, not a network namespace's.
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
	}
}

// frugal makes Go's collector keep less for later.
const frugal = "GOGC=30"

// startNode starts the program of a node.
func (l *Lab) startNode(n node, entry Entry) (*child, error) {
	if err := rotate(n.log()); err != nil {
		return nil, err
	}
	m, err := l.manifest()
	if err != nil {
		return nil, err
	}
	return start(launch{
		record:  n.record(),
		log:     n.log(),
		command: []string{m.Node, "--config", n.file("config.json")},
		env:     []string{"PATH=" + systemPath(), "HOME=" + n.dir, "TMPDIR=" + os.TempDir(), frugal},
		entry:   entry,
	})
}

// startNodes starts those nodes of a cluster that do not run, and waits until they are ready.
func (l *Lab) startNodes(ctx context.Context, c Cluster, nodes []node) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		entry, err := l.Entry(ctx, n.Name)
		if err != nil {
			return err
		}
		ch, err := l.startNode(n, entry)
		if err != nil {
			return err
		}
		wg.Go(func() { errs <- c.awaitNode(ctx, n, ch) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitNode waits until the API says that the node is ready, and says so of this run of it.
func (c Cluster) awaitNode(ctx context.Context, n node, ch *child) error {
	client, err := c.clientset()
	if err != nil {
		return err
	}
	dead := func() error {
		select {
		case <-ch.ended:
			return fmt.Errorf("node %s ended; the end of %s:\n%s", n.Name, ch.Log, cause(ch.Log))
		default:
			return nil
		}
	}
	return repeat(ctx, "node "+n.Name+" is ready", ch.Log, dead, func(ctx context.Context) error {
		live, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range live.Status.Conditions {
			fresh := condition.LastHeartbeatTime.After(ch.Started.Truncate(time.Second).Add(-time.Second))
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && fresh {
				return nil
			}
		}
		return errNotReady
	})
}
