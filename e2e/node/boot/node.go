package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/hansa-dev/hansa/e2e/node/agent"
	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

const (
	podWorkers     = 16               // pods that are handed to the agent at a time; it is quick about each
	statusInterval = 10 * time.Second // of the Node object, as with a kubelet
)

// node is what a node consists of.
type node struct {
	config    config.Config
	client    kubernetes.Interface
	log       *slog.Logger
	agent     *agent.Agent
	heartbeat *agent.Heartbeat
	object    *corev1.Node
	pods      informers.SharedInformerFactory // of this node
	all       informers.SharedInformerFactory // of the cluster
	self      informers.SharedInformerFactory // the Node object
	unused    informers.SharedInformerFactory // what the pod controller wants to have and does not use
}

func newNode(ctx context.Context, c config.Config, client kubernetes.Interface, table *process.Table, bridge *sandbox.Bridge, log *slog.Logger) (*node, error) {
	only := func(field string) informers.SharedInformerOption {
		return informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = fields.OneTermEqualSelector(field, c.Name).String() })
	}
	n := &node{
		config: c, client: client, log: log,
		pods:   informers.NewSharedInformerFactoryWithOptions(client, 0, only("spec.nodeName")),
		self:   informers.NewSharedInformerFactoryWithOptions(client, 0, only(metav1.ObjectNameField)),
		all:    informers.NewSharedInformerFactory(client, 0),
		unused: informers.NewSharedInformerFactory(client, 0),
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: c.Name})
	a, err := agent.New(ctx, agent.Parts{
		Config: c, Client: client, Events: recorder, Table: table, Bridge: bridge, Log: log,
		Pods: n.pods.Core().V1().Pods().Lister(), Services: n.all.Core().V1().Services().Lister(),
	})
	if err != nil {
		return nil, err
	}
	n.agent = a
	version := "v0.0.0"
	if v, err := client.Discovery().ServerVersion(); err == nil {
		version = v.GitVersion
	}
	n.object = agent.NodeObject(c, version, time.Now())
	n.heartbeat = agent.NewHeartbeat(n.object)
	return n, n.observe()
}

// observe has the agent and the heartbeat see what others write about their objects.
func (n *node) observe() error {
	_, err := n.pods.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) {
			if pod, ok := object.(*corev1.Pod); ok {
				n.agent.Observe(pod)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	_, err = n.self.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) {
			if node, ok := object.(*corev1.Node); ok {
				n.heartbeat.Observe(node)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching the node: %w", err)
	}
	return nil
}

// watch runs the informers until ctx ends.
func (n *node) watch(ctx context.Context) {
	factories := []informers.SharedInformerFactory{n.pods, n.all, n.self}
	for _, f := range factories {
		f.Start(ctx.Done())
	}
	<-ctx.Done()
	for _, f := range factories {
		f.Shutdown()
	}
}

// runPods connects the agent with the pods of the API server.
func (n *node) runPods(ctx context.Context) error {
	// Environments mention services, so those that are there already have to be known before the first pod is.
	if !cache.WaitForCacheSync(ctx.Done(), n.all.Core().V1().Services().Informer().HasSynced) {
		return ctx.Err()
	}
	pods := n.pods.Core().V1().Pods()
	controller, err := vknode.NewPodController(vknode.PodControllerConfig{
		PodClient:     n.agent.PodClient(),
		PodInformer:   pods,
		EventRecorder: &record.FakeRecorder{}, // the agent makes the events of a kubelet; the controller's would be about itself
		Provider:      n.agent,

		ConfigMapInformer: n.unused.Core().V1().ConfigMaps(),
		SecretInformer:    n.unused.Core().V1().Secrets(),
		ServiceInformer:   n.unused.Core().V1().Services(),
		// The agent does it, for the addresses of a pod are not known before it has a network.
		SkipDownwardAPIResolution: true,

		SyncPodsFromKubernetesRateLimiter:    promptly(),
		DeletePodsFromKubernetesRateLimiter:  promptly(),
		SyncPodStatusFromProviderRateLimiter: promptly(),
	})
	if err != nil {
		return fmt.Errorf("making the pod controller: %w", err)
	}
	return controller.Run(ctx, podWorkers)
}

// promptly lets things be done at once, and after failures with a delay that grows.
func promptly() workqueue.TypedRateLimiter[any] {
	const first, most = time.Millisecond, 5 * time.Second
	return workqueue.NewTypedItemExponentialFailureRateLimiter[any](first, most)
}

// runNode keeps the Node object and its lease.
func (n *node) runNode(ctx context.Context) error {
	const renewals = 4 // in the time that a lease lasts
	lease := n.config.LeaseSeconds
	controller, err := vknode.NewNodeController(n.heartbeat, n.object.DeepCopy(), n.client.CoreV1().Nodes(),
		vknode.WithNodeEnableLeaseV1WithRenewInterval(n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease), lease, time.Duration(lease)*time.Second/renewals),
		vknode.WithNodeStatusUpdateInterval(statusInterval),
		vknode.WithNodeStatusUpdateErrorHandler(n.registerAgain),
	)
	if err != nil {
		return fmt.Errorf("making the node controller: %w", err)
	}
	return controller.Run(ctx)
}

// registerAgain makes the Node object anew if somebody has deleted it.
func (n *node) registerAgain(ctx context.Context, err error) error {
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, createErr := n.client.CoreV1().Nodes().Create(ctx, n.object.DeepCopy(), metav1.CreateOptions{})
	if createErr != nil {
		return errors.Join(err, createErr)
	}
	return nil
}
