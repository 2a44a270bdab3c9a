package agent

import (
	"context"
	"maps"
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/config"
)

// NodeObject is the Node object of this node.
func NodeObject(c config.Config, version string, now time.Time) *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname: c.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
	}
	maps.Copy(labels, c.Labels)
	resources := allocatable(c)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name, Labels: labels},
		Spec:       corev1.NodeSpec{PodCIDR: c.PodCIDR.String(), PodCIDRs: []string{c.PodCIDR.String()}},
		Status: corev1.NodeStatus{
			Capacity: resources, Allocatable: resources.DeepCopy(),
			Conditions: nodeConditions(now),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: c.Address.String()},
				{Type: corev1.NodeHostName, Address: c.Name},
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: KubeletPort}},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: version, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
				OSImage: "Hansa lab", ContainerRuntimeVersion: "lab://processes", MachineID: c.Name, SystemUUID: c.Name, BootID: c.Name,
			},
		},
	}
}

// allocatable is what the node says that it has for pods, which is all of it.
func allocatable(c config.Config) corev1.ResourceList {
	resources := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
	for name, quantity := range c.Capacity {
		resources[corev1.ResourceName(name)] = resource.MustParse(quantity)
	}
	return resources
}

func nodeConditions(now time.Time) []corev1.NodeCondition {
	at := metav1.NewTime(now)
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, Message: message, LastHeartbeatTime: at, LastTransitionTime: at}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "the node runs pods as processes"),
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "memory is not watched in the lab"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "disks are not watched in the lab"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "processes are not counted in the lab"),
	}
}

// Heartbeat tells the node controller about the node. It is well for as long as this program runs; what is left to do
// is to say so again when somebody came to believe otherwise.
type Heartbeat struct {
	node *corev1.Node

	mu     sync.Mutex
	notify func(*corev1.Node)
	last   time.Time
}

// NewHeartbeat returns a Heartbeat of the node.
func NewHeartbeat(node *corev1.Node) *Heartbeat { return &Heartbeat{node: node} }

// Ping is called to see whether the node is well.
func (h *Heartbeat) Ping(ctx context.Context) error { return ctx.Err() }

// NotifyNodeStatus is called by the node controller to say where statuses go.
func (h *Heartbeat) NotifyNodeStatus(_ context.Context, notify func(*corev1.Node)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notify = notify
}

// objectionPause is how often the node objects to being called not ready: the one who said so has to see first that
// the node's lease is being renewed.
const objectionPause = 500 * time.Millisecond

// Observe is told what the API server says about the node.
func (h *Heartbeat) Observe(node *corev1.Node) {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.notify == nil {
		return
	}
	pause := max(0, objectionPause-time.Since(h.last))
	h.last = time.Now().Add(pause)
	notify := h.notify
	time.AfterFunc(pause, func() {
		fresh := h.node.DeepCopy()
		fresh.Status.Conditions = nodeConditions(time.Now())
		notify(fresh)
	})
}
