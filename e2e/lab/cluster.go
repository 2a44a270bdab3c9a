package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hansa-dev/hansa/e2e/lab/addons"
	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// Component is one of the programs of a control plane.
type Component string

// Components of every cluster.
const (
	Etcd              Component = "etcd"
	APIServer         Component = "apiserver"
	ControllerManager Component = "controller-manager"
	Scheduler         Component = "scheduler"
	Kwok              Component = "kwok" // in thin members with fake nodes only
)

// Components lists the components in the order in which they start.
func Components() []Component { return []Component{Etcd, APIServer, ControllerManager, Scheduler} }

// thinOff are the admission plugins that wait for what a thin member does not have, or does not serve.
const thinOff = "ServiceAccount,Priority,RuntimeClass,DefaultStorageClass,PersistentVolumeClaimResize,StorageObjectInUseProtection"

// thinGroups are the APIs that a thin member serves: those of the types that are federated by default, and what clients
// need to find their way.
var thinGroups = []string{
	"v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1", "apiextensions.k8s.io/v1",
	"apiregistration.k8s.io/v1", "authentication.k8s.io/v1", "authorization.k8s.io/v1", "coordination.k8s.io/v1",
	"discovery.k8s.io/v1", "admissionregistration.k8s.io/v1",
}

// program is the name by which the Kubernetes binary knows the component.
func (c Component) program() string {
	if c == Etcd {
		return "etcd"
	}
	return "kube-" + string(c)
}

// Hub is the name of the cluster that hosts the federation.
const Hub = "hub"

// serviceCIDRs are 10.x.0.0/16 with x from here on, one for each cluster.
const firstServiceNet = 96

// Cluster is one control plane of a lab.
type Cluster struct {
	Name string // "hub", "m1", "m2", …

	index  int
	dir    string
	binary string
	gates  string
	ports  clusterPorts

	thin    bool     // an API server and its etcd only
	fake    int      // nodes that kwok plays
	kwok    string   // path of kwok, which plays nodes in a thin member; "" if there are none
	traffic *Traffic // nil in a lab without
	entry   Entry    // into the cluster's network; empty in a lab without traffic, and until it is known
}

// clusterPorts are the ports of 127.0.0.1 that a cluster listens on. They are kept for as long as the lab lives, for
// kubeconfigs name them. The controller manager and the scheduler serve nothing.
type clusterPorts struct {
	APIServer int `json:"apiserver"`
	Etcd      int `json:"etcd"`
}

// Components lists the components of the cluster in the order in which they start.
func (c Cluster) Components() []Component {
	switch {
	case c.kwok != "":
		return []Component{Etcd, APIServer, Kwok}
	case c.thin:
		return []Component{Etcd, APIServer}
	}
	return Components()
}

// by returns the ports by the components that listen on them.
func (p *clusterPorts) by() map[Component]*int {
	return map[Component]*int{APIServer: &p.APIServer, Etcd: &p.Etcd}
}

// URL is where the cluster's API is served.
func (c Cluster) URL() string { return "https://" + loopback(c.ports.APIServer) }

// Log is the file with the output of a component.
func (c Cluster) Log(of Component) string { return filepath.Join(c.dir, "logs", string(of)+".log") }

func (c Cluster) auditLog() string           { return filepath.Join(c.dir, "audit.log") }
func (c Cluster) pki(name string) string     { return filepath.Join(c.dir, "pki", name) }
func (c Cluster) portsFile() string          { return filepath.Join(c.dir, "ports.json") }
func (c Cluster) record(of Component) string { return filepath.Join(c.dir, "run", string(of)+".json") }
func (c Cluster) serviceNet() byte           { return firstServiceNet + byte(c.index) } //nolint:gosec // G115: see MaxMembers
func (c Cluster) kubeconfig(user string) string {
	return filepath.Join(c.dir, user+".kubeconfig")
}

// RESTConfig is the client configuration of the cluster's administrator, without a limit of requests per second.
func (c Cluster) RESTConfig() (*rest.Config, error) {
	pair, err := c.readPair("admin")
	if err != nil {
		return nil, err
	}
	return c.restConfig(pair)
}

// UserConfig is like RESTConfig for any user: it issues a client certificate for that name and those groups. RBAC
// decides what the user may do.
func (c Cluster) UserConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := c.readPair("ca")
	if err != nil {
		return nil, err
	}
	ca, err := loadAuthority(pair)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of cluster %s: %w", c.Name, err)
	}
	if pair, err = ca.client(time.Now(), user, groups...); err != nil {
		return nil, err
	}
	return c.restConfig(pair)
}

func (c Cluster) restConfig(client keyPair) (*rest.Config, error) {
	ca, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the authority of cluster %s: %w", c.Name, err)
	}
	return &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: ca, CertData: client.Cert, KeyData: client.Key},
		QPS:             -1,
	}, nil
}

func (c Cluster) readPair(name string) (keyPair, error) {
	cert, err := os.ReadFile(c.pki(name + ".crt"))
	if err != nil {
		return keyPair{}, fmt.Errorf("reading credentials of cluster %s: %w", c.Name, err)
	}
	key, err := os.ReadFile(c.pki(name + ".key"))
	if err != nil {
		return keyPair{}, fmt.Errorf("reading credentials of cluster %s: %w", c.Name, err)
	}
	return keyPair{Cert: cert, Key: key}, nil
}

// prepare writes the cluster's keys, certificates and configuration. It does not need the ports yet.
func (c Cluster) prepare(now time.Time) error {
	ca, err := newAuthority("hansa-lab "+c.Name, now)
	if err != nil {
		return err
	}
	// Its own authority: whoever gets a client certificate of the cluster has no access to etcd by it.
	etcdCA, err := newAuthority("hansa-lab "+c.Name+" etcd", now)
	if err != nil {
		return err
	}
	tokens, err := newSigningKey()
	if err != nil {
		return err
	}
	pairs := map[string]keyPair{"ca": ca.keyPair, "etcd-ca": etcdCA.keyPair, "service-accounts": tokens}
	ips := []net.IP{net.IPv4(10, c.serviceNet(), 0, 1)}
	if c.traffic != nil {
		ips = append(ips, network.RouterIP(c.index).AsSlice())
	}
	inCluster := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	for name, issue := range map[string]func() (keyPair, error){
		"apiserver":   func() (keyPair, error) { return ca.server(now, "kube-apiserver", inCluster, ips) },
		"etcd":        func() (keyPair, error) { return etcdCA.server(now, "etcd", nil, nil) },
		"etcd-client": func() (keyPair, error) { return etcdCA.client(now, "kube-apiserver") },
		"admin":       func() (keyPair, error) { return ca.client(now, "kubernetes-admin", "system:masters") },
		"controller-manager": func() (keyPair, error) {
			return ca.client(now, "system:kube-controller-manager")
		},
		"scheduler":      func() (keyPair, error) { return ca.client(now, "system:kube-scheduler") },
		"kubelet-client": func() (keyPair, error) { return ca.client(now, "kube-apiserver-kubelet-client", "system:masters") },
	} {
		if pairs[name], err = issue(); err != nil {
			return err
		}
	}
	for name, pair := range pairs {
		if err := writeFile(c.pki(name+".crt"), pair.Cert); err != nil {
			return err
		}
		if err := writeFile(c.pki(name+".key"), pair.Key); err != nil {
			return err
		}
	}
	if c.kwok != "" {
		if err := writeFile(c.kwokConfig(), []byte(addons.KwokConfig)); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(c.dir, "audit-policy.yaml"), []byte(auditPolicy))
}

// address fixes the cluster's ports and writes what depends on them.
func (c Cluster) address() error {
	if err := writeJSON(c.portsFile(), c.ports); err != nil {
		return err
	}
	clients := map[Component]string{ControllerManager: "controller-manager", Scheduler: "scheduler", Kwok: "admin"}
	for _, user := range c.Components() {
		name := clients[user]
		if name == "" {
			continue // it is no client of the API
		}
		pair, err := c.readPair(name)
		if err != nil {
			return err
		}
		config := clientcmdapi.NewConfig()
		if err := c.addContext(config, pair); err != nil {
			return err
		}
		config.CurrentContext = c.Name
		data, err := clientcmd.Write(*config)
		if err != nil {
			return fmt.Errorf("writing a kubeconfig of %s: %w", c.Name, err)
		}
		if err := writeFile(c.kubeconfig(string(user)), data); err != nil {
			return err
		}
	}
	return nil
}

// addContext adds cluster, user and context to a kubeconfig, all three under the cluster's name.
func (c Cluster) addContext(config *clientcmdapi.Config, user keyPair) error {
	ca, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		return fmt.Errorf("reading the authority of cluster %s: %w", c.Name, err)
	}
	config.Clusters[c.Name] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: ca}
	config.AuthInfos[c.Name] = &clientcmdapi.AuthInfo{ClientCertificateData: user.Cert, ClientKeyData: user.Key}
	config.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	return nil
}

// launch says how to start a component.
func (c Cluster) launch(of Component) launch {
	var flags []string
	switch of {
	case Etcd:
		flags = c.etcdFlags()
	case APIServer:
		flags = c.apiserverFlags()
	case ControllerManager:
		flags = c.controllerManagerFlags()
	case Scheduler:
		flags = c.schedulerFlags()
	case Kwok:
		flags = c.kwokFlags()
	}
	if c.gates != "" && of != Etcd && of != Kwok {
		flags = append(flags, "--feature-gates="+c.gates)
	}
	command, env := []string{c.binary, of.program()}, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "TMPDIR=" + os.TempDir()}
	if of == Kwok {
		command = []string{c.kwok}
	}
	switch { // less memory for a little more processor time, where much is to fit on one machine
	case c.thin:
		env = append(env, "GOGC=50", "GOMAXPROCS=2")
	case c.traffic != nil && of == APIServer: // which has most to do
		env = append(env, frugal)
	case c.traffic != nil:
		env = append(env, "GOGC=15")
	}
	return launch{
		record:  c.record(of),
		log:     c.Log(of),
		command: slices.Concat(command, flags),
		entry:   c.entry,
		// Not the caller's: etcd takes settings from variables, and a proxy would be used for webhooks.
		env: env,
	}
}

func (c Cluster) etcdFlags() []string {
	client := "https://" + loopback(c.ports.Etcd)
	// A single member never talks to a peer, so any port does for listening and no port for being called.
	const peer = "https://127.0.0.1:1"
	return []string{
		"--name=" + c.Name,
		"--data-dir=" + filepath.Join(c.dir, "etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--client-cert-auth",
		"--trusted-ca-file=" + c.pki("etcd-ca.crt"),
		"--cert-file=" + c.pki("etcd.crt"),
		"--key-file=" + c.pki("etcd.key"),
		"--listen-peer-urls=https://127.0.0.1:0",
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + c.Name + "=" + peer,
		"--peer-client-cert-auth",
		"--peer-trusted-ca-file=" + c.pki("etcd-ca.crt"),
		"--peer-cert-file=" + c.pki("etcd.crt"),
		"--peer-key-file=" + c.pki("etcd.key"),
		"--log-level=warn",
		"--unsafe-no-fsync", // the lab is thrown away; SIGKILL does not lose what was written
	}
}

func (c Cluster) apiserverFlags() []string {
	return append(append(c.addressFlags(), c.thinFlags()...), []string{
		"--etcd-servers=https://" + loopback(c.ports.Etcd),
		"--etcd-cafile=" + c.pki("etcd-ca.crt"),
		"--etcd-certfile=" + c.pki("etcd-client.crt"),
		"--etcd-keyfile=" + c.pki("etcd-client.key"),
		"--secure-port=" + strconv.Itoa(c.ports.APIServer),
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--anonymous-auth=false",
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("service-accounts.crt"),
		"--service-account-signing-key-file=" + c.pki("service-accounts.key"),
		fmt.Sprintf("--service-cluster-ip-range=10.%d.0.0/16", c.serviceNet()),
		"--allow-privileged",
		"--audit-policy-file=" + filepath.Join(c.dir, "audit-policy.yaml"),
		"--audit-log-path=" + c.auditLog(),
		"--audit-log-maxsize=1000000", // MB: never rotate, so that positions stay valid
	}...)
}

// thinFlags make the API server of a thin member smaller. Without the groups of flow control it cannot have that.
func (c Cluster) thinFlags() []string {
	if !c.thin {
		return nil
	}
	return []string{
		"--runtime-config=api/all=false," + strings.Join(thinGroups, "=true,") + "=true",
		"--enable-priority-and-fairness=false",
		"--disable-admission-plugins=" + thinOff,
		"--default-watch-cache-size=10",
	}
}

// kwokFlags are those of the program that plays nodes and Pods. It is an administrator of the member.
func (c Cluster) kwokFlags() []string {
	return []string{"-v", "WARN", "--kubeconfig=" + c.kubeconfig(string(Kwok)), "--config=" + c.kwokConfig()}
}

func (c Cluster) kwokConfig() string { return filepath.Join(c.dir, "kwok.yaml") }

// addressFlags say where the API server listens, and how it reaches nodes.
func (c Cluster) addressFlags() []string {
	if c.traffic == nil {
		return []string{
			"--bind-address=127.0.0.1",
			"--endpoint-reconciler-type=none", // the Service "kubernetes" has no endpoint that a Pod could reach
		}
	}
	return []string{
		"--bind-address=0.0.0.0", // of the cluster's own network
		"--advertise-address=" + network.RouterIP(c.index).String(),
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki("kubelet-client.key"),
		"--kubelet-certificate-authority=" + c.pki("ca.crt"),
		"--default-not-ready-toleration-seconds=" + evictAfter,
		"--default-unreachable-toleration-seconds=" + evictAfter,
	}
}

func (c Cluster) controllerManagerFlags() []string {
	return append(c.nodeMonitorFlags(), []string{
		"--kubeconfig=" + c.kubeconfig(string(ControllerManager)),
		"--secure-port=0", // serves nothing
		"--leader-elect=false",
		"--use-service-account-credentials", // under RBAC each controller has its own rights
		"--service-account-private-key-file=" + c.pki("service-accounts.key"),
		"--root-ca-file=" + c.pki("ca.crt"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"),
		"--cluster-signing-key-file=" + c.pki("ca.key"),
		// All but those that manage nodes' networks and a cloud.
		"--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller",
		"--kube-api-qps=500", // the defaults would make the lab, not what is tested in it, the slow part
		"--kube-api-burst=1000",
	}...)
}

func (c Cluster) schedulerFlags() []string {
	return []string{
		"--kubeconfig=" + c.kubeconfig(string(Scheduler)),
		"--secure-port=0", // serves nothing
		"--leader-elect=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

// clusterNames are hub, m1, m2, … for a number of members, and s1, s2, … for thin ones.
func clusterNames(members, thin int) []string {
	names := []string{Hub}
	for i := range members {
		names = append(names, "m"+strconv.Itoa(i+1))
	}
	for i := range thin {
		names = append(names, "s"+strconv.Itoa(i+1))
	}
	return names
}

// formatGates writes feature gates as Kubernetes' programs read them, sorted.
func formatGates(gates map[string]bool) string {
	var parts []string
	for name, on := range gates {
		parts = append(parts, name+"="+strconv.FormatBool(on))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
