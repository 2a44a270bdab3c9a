// Package agent is the kubelet of the lab: it makes the pods of a node run as processes, and tells the API server
// how they are. virtual-kubelet's pod controller tells it about pods, and writes the statuses that it reports.
//
// Every pod has a worker, a goroutine that owns everything about the pod. What happens to the pod, an exit of a process
// or a probe's change of mind, is sent to the worker as a function; after each the worker asks package lifecycle what is
// to be done, does it, and publishes the pod's status.
//
// What a kubelet does and this one does not: users and groups (runAsUser and fsGroup are ignored, containers run as
// root of the lab), resource limits, devices, seccomp and the like, pulling images, volumes other than emptyDir,
// configMap, secret, downwardAPI and projected, host namespaces other than the network, ephemeral containers, and
// changing a container's resources. Containers of a pod have IPC namespaces of their own.
//
// A pod that asks for another user than root or for a port of the node has an event that says that the lab ignores it.
//
// What would make a container master of the machine, where root has started the lab, is refused with an event and
// CreateContainerConfigError: privileged containers, and capabilities that do not only concern the container's own
// network and processes, such as SYS_ADMIN, MKNOD, SYS_PTRACE or ALL. Volumes of the machine's files and its PID and IPC
// namespaces are refused when the pod is set up.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/podspec"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// Marker is the environment variable by which the lab recognises its processes; containers inherit it.
const Marker = "HANSA_LAB_PROCESS"

// Agent runs the pods of one node.
type Agent struct {
	config   config.Config
	client   kubernetes.Interface
	pods     corev1listers.PodLister
	services corev1listers.ServiceLister
	events   record.EventRecorder
	sandbox  *sandbox.Sandbox
	bridge   *sandbox.Bridge
	hostNet  *os.File
	dns      podspec.DNS
	log      *slog.Logger
	base     context.Context //nolint:containedctx // workers live as long as the agent, not as long as the call that makes them

	mu        sync.Mutex
	workers   map[types.UID]*worker
	addresses *addresses
	notify    func(*corev1.Pod)
	nonce     uint64
}

// Parts are what an Agent works with.
type Parts struct {
	Config   config.Config
	Client   kubernetes.Interface
	Pods     corev1listers.PodLister // of this node
	Services corev1listers.ServiceLister
	Events   record.EventRecorder
	Table    *process.Table
	Bridge   *sandbox.Bridge
	Log      *slog.Logger
}

// New returns an agent without pods. They end with ctx.
func New(ctx context.Context, p Parts) (*Agent, error) {
	hostNet, err := sandbox.Host()
	if err != nil {
		return nil, fmt.Errorf("finding the node's network: %w", err)
	}
	// Mounts and volumes of pods that a former agent left are nobody's any more. Logs go with them: their pods start anew.
	if err := os.MkdirAll(filepath.Join(p.Config.StateDir, "pods"), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of pods: %w", err)
	}
	return &Agent{
		config: p.Config, client: p.Client, pods: p.Pods, services: p.Services, events: p.Events,
		sandbox: &sandbox.Sandbox{Shim: p.Config.Shim, Table: p.Table}, bridge: p.Bridge, hostNet: hostNet,
		dns: podspec.DNS{Server: p.Config.ClusterDNS, Domain: p.Config.ClusterDomain, Node: nodeResolver()},
		log: p.Log, base: ctx, workers: map[types.UID]*worker{}, addresses: newAddresses(p.Bridge.Range),
		notify: func(*corev1.Pod) {},
	}, nil
}

// nodeResolver is the resolver of the node. The lab has no way out, so there is nobody to ask.
func nodeResolver() podspec.Resolver { return podspec.Resolver{} }

// NotifyPods is called by the pod controller to say where statuses go.
func (a *Agent) NotifyPods(_ context.Context, notify func(*corev1.Pod)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notify = notify
}

// CreatePod starts a pod. Whatever goes wrong with it shows in its status and in events.
func (a *Agent) CreatePod(_ context.Context, pod *corev1.Pod) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid, w := range a.workers {
		if uid != pod.UID && w.names(pod.Namespace, pod.Name) { // it was deleted by force and made anew
			w.terminate(0)
		}
	}
	if _, known := a.workers[pod.UID]; known {
		return nil
	}
	w := newWorker(a, pod)
	a.workers[pod.UID] = w
	go w.run(a.base)
	return nil
}

// UpdatePod tells about a change of labels, annotations, images or deadline.
func (a *Agent) UpdatePod(_ context.Context, pod *corev1.Pod) error {
	w := a.worker(pod.UID)
	if w == nil {
		return errdefs.NotFoundf("pod %s/%s", pod.Namespace, pod.Name)
	}
	w.update(pod)
	return nil
}

// DeletePod lets a pod end. The Pod object is deleted when nothing of it runs any more.
func (a *Agent) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	var grace time.Duration
	if seconds := pod.DeletionGracePeriodSeconds; seconds != nil && pod.DeletionTimestamp != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	w := a.worker(pod.UID)
	if w == nil { // it ended with a former agent
		return a.deleteObject(ctx, pod)
	}
	w.terminate(grace)
	return nil
}

// GetPod returns a pod that the agent runs.
func (a *Agent) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	w := a.find(namespace, name)
	if w == nil {
		return nil, errdefs.NotFoundf("pod %s/%s does not run on this node", namespace, name)
	}
	return w.published(), nil
}

// GetPodStatus returns the status of a pod that the agent runs.
func (a *Agent) GetPodStatus(ctx context.Context, namespace, name string) (*corev1.PodStatus, error) {
	pod, err := a.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return &pod.Status, nil
}

// GetPods lists the pods that the agent runs.
func (a *Agent) GetPods(context.Context) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	for _, w := range a.list() {
		pods = append(pods, w.published())
	}
	return pods, nil
}

// find returns the worker of a pod. If the API server knows a pod of the name, it must be that one.
func (a *Agent) find(namespace, name string) *worker {
	current, err := a.pods.Pods(namespace).Get(name)
	if err == nil {
		return a.worker(current.UID)
	}
	for _, w := range a.list() {
		if w.names(namespace, name) {
			return w
		}
	}
	return nil
}

func (a *Agent) worker(uid types.UID) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers[uid]
}

// list returns the workers in the order of their pods' names.
func (a *Agent) list() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	workers := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		workers = append(workers, w)
	}
	sortWorkers(workers)
	return workers
}

// forget ends the agent's knowledge of a pod that has ended.
func (a *Agent) forget(uid types.UID, address netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.workers, uid)
	a.addresses.free(address)
}

func (a *Agent) takeAddress() (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addresses.take()
}

// Wait waits until the pods' processes have ended, after the end of the agent's context.
func (a *Agent) Wait() {
	for _, w := range a.list() {
		<-w.gone
	}
}
