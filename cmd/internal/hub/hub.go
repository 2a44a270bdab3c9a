package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	corev1a1 "sigs.k8s.io/kubefed/pkg/apis/core/v1alpha1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	mcmanager "sigs.k8s.io/multicluster-runtime/pkg/manager"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/sync"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

const (
	// leaseName is the Lease that hubs of one namespace compete for. KubeFed's own lock was a ConfigMap of another name.
	leaseName = api.HubLease
	// shutdownTimeout is how long the hub takes at most to finish what it has in hand.
	shutdownTimeout = 5 * time.Second
)

// leaderElectionLost is the text of controller-runtime's error, which it does not export.
const leaderElectionLost = "leader election lost"

// errLostLease ends the program, as it does KubeFed's: whoever leads now must not meet a second writer.
var errLostLease = errors.New("lost the lease: another hub leads now, or the host cluster was away for too long")

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextv1.AddToScheme, corev1b1.AddToScheme, corev1a1.AddToScheme,
		v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// serve runs the hub until ctx ends.
func serve(ctx context.Context, o *Options, config *rest.Config) error {
	log := ctrl.Log.WithName("hub")
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("connecting to the host cluster at %s: %w", config.Host, err)
	}
	fedConfig, err := loadConfig(ctx, direct, o, log)
	if err != nil {
		return err
	}
	registry := cluster.NewRegistry(log.WithName("registry"))
	registry.SetPace(pace(fedConfig))
	mgr, err := newManager(ctx, o, config, scheme, fedConfig, registry)
	if err != nil {
		return err
	}
	if err := assemble(mgr, o, config, fedConfig, registry); err != nil {
		return err
	}
	if err := addServices(ctx, mgr.GetLocalManager(), o, registry); err != nil {
		return err
	}
	log.Info("Starting cluster controller", "namespace", o.Namespace, "host", config.Host)
	go func() {
		select {
		case <-mgr.Elected():
			log.Info("promoted as leader")
		case <-ctx.Done():
		}
	}()
	err = mgr.Start(ctx)
	if err != nil && ctx.Err() == nil {
		if err.Error() == leaderElectionLost {
			return errLostLease
		}
		return fmt.Errorf("running the hub: %w", err)
	}
	log.Info("Stopped")
	return nil
}

func newManager(ctx context.Context, o *Options, config *rest.Config, scheme *runtime.Scheme, fedConfig *corev1b1.KubeFedConfig, registry *cluster.Registry) (mcmanager.Manager, error) {
	duration, deadline, retry := lease(fedConfig)
	metrics.Registry.MustRegister(append(cluster.Collectors(), sync.Collectors()...)...)
	own := map[string]cache.Config{o.Namespace: {}}
	mgr, err := mcmanager.New(config, registry, manager.Options{
		Scheme: scheme,
		Logger: quietEnd(ctrl.Log, ctx.Done()),
		Cache: cache.Options{
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Secret{}:                {Namespaces: own},
				&corev1b1.KubeFedCluster{}:      {Namespaces: own},
				&corev1b1.FederatedTypeConfig{}: {Namespaces: own},
				&v1alpha1.ClusterInfo{}:         {Namespaces: own},
				&corev1.ConfigMap{}:             {Namespaces: own},
			},
		},
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddr},
		HealthProbeBindAddress:        o.HealthzAddr,
		PprofBindAddress:              o.PprofAddr,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &duration,
		RenewDeadline:                 &deadline,
		RetryPeriod:                   &retry,
		GracefulShutdownTimeout:       new(shutdownTimeout),
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the hub: %w", err)
	}
	return mgr, nil
}

// assemble puts the rooms together.
func assemble(mgr mcmanager.Manager, o *Options, config *rest.Config, fedConfig *corev1b1.KubeFedConfig, registry *cluster.Registry) error {
	local := mgr.GetLocalManager()
	dynamicClient, err := dynamic.NewForConfigAndClient(config, local.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("connecting to the host cluster: %w", err)
	}
	host := sync.NewHost(&sync.Host{
		Client:    dynamicClient,
		Members:   registry,
		Recorder:  recorder{local.GetEventRecorder("hansa-hub"), o.Namespace},
		Log:       ctrl.Log.WithName("sync"),
		Namespace: o.Namespace,
		Settings:  settings(fedConfig),
	})
	members := &cluster.Reconciler{Registry: registry, Client: local.GetClient(), Members: mgr, Namespace: o.Namespace}
	engine := &typeconfig.Engine{Client: local.GetClient(), Reader: local.GetAPIReader(), Runner: runner{host}, Namespace: o.Namespace}
	if err := local.Add(host); err != nil {
		return fmt.Errorf("setting up propagation: %w", err)
	}
	if err := members.SetupWithManager(mgr); err != nil {
		return err
	}
	if err := engine.SetupWithManager(mgr); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("setting up /healthz: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("setting up /readyz: %w", err)
	}
	return nil
}

// recorder sends Warning events. The cluster is the related object of an event, so that events about one object in
// several clusters stay apart.
type recorder struct {
	events.EventRecorder

	namespace string // of the hub
}

// maxNote is the length that the API server allows for the note of an event.
const maxNote = 1024

func (r recorder) Warn(object runtime.Object, member, reason, message string) {
	if len(message) > maxNote {
		message = strings.ToValidUTF8(message[:maxNote-3], "") + "..."
	}
	var related runtime.Object
	if member != "" {
		related = &corev1.ObjectReference{
			APIVersion: corev1b1.SchemeGroupVersion.String(), Kind: "KubeFedCluster", Namespace: r.namespace, Name: member,
		}
	}
	r.Eventf(object, related, corev1.EventTypeWarning, reason, "Propagate", "%s", message)
}

// runner lets the type engine start the propagation of package sync.
type runner struct{ host *sync.Host }

func (r runner) Start(ctx context.Context, tc *corev1b1.FederatedTypeConfig, moved func()) typeconfig.Running {
	ctx, cancel := context.WithCancel(ctx)
	reconciler := sync.NewReconciler(r.host, tc, moved)
	done := make(chan struct{})
	go func() {
		defer close(done)
		reconciler.Run(ctx)
	}()
	return running{reconciler, func() {
		cancel()
		<-done
	}}
}

type running struct {
	*sync.Reconciler

	stop func()
}

func (r running) Stop() { r.stop() }

func (r running) Clusters() []typeconfig.ClusterState {
	states := r.Reconciler.Clusters()
	list := make([]typeconfig.ClusterState, 0, len(states))
	for _, s := range states {
		list = append(list, typeconfig.ClusterState{Name: s.Name, State: string(s.State), Message: s.Message})
	}
	return list
}
