package hub

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/kubefed/pkg/apis/core/v1beta1/defaults"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/sync"
)

// loadConfig returns the KubeFedConfig of the hub, with KubeFed's defaults: from the file if one is given, else from
// the host cluster, where one with defaults is created if there is none, as KubeFed does.
func loadConfig(ctx context.Context, host client.Client, o *Options, log logr.Logger) (*corev1b1.KubeFedConfig, error) {
	config := &corev1b1.KubeFedConfig{}
	key := client.ObjectKey{Namespace: o.Namespace, Name: api.DefaultConfigName}
	if o.ConfigFile != "" {
		data, err := os.ReadFile(o.ConfigFile)
		if err != nil {
			return nil, fmt.Errorf("reading --kubefed-config: %w", err)
		}
		if err := yaml.UnmarshalStrict(data, config); err != nil {
			return nil, fmt.Errorf("--kubefed-config %s is not a KubeFedConfig: %w", o.ConfigFile, err)
		}
		config.Namespace = o.Namespace
		if config.Name == "" {
			config.Name = api.DefaultConfigName
		}
		return finished(config, log)
	}
	err := host.Get(ctx, key, config)
	switch {
	case apierrors.IsNotFound(err):
		config.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
		config.Spec.Scope = apiextv1.ClusterScoped
		defaults.SetDefaultKubeFedConfig(config)
		if err := host.Create(ctx, config); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("creating KubeFedConfig %q with default values (is the host cluster prepared? run: hansa init): %w", key, err)
		}
	case err != nil:
		return nil, fmt.Errorf("reading KubeFedConfig %q (is the host cluster prepared? run: hansa init): %w", key, err)
	}
	return finished(config, log)
}

func finished(config *corev1b1.KubeFedConfig, log logr.Logger) (*corev1b1.KubeFedConfig, error) {
	defaults.SetDefaultKubeFedConfig(config)
	if scope := config.Spec.Scope; scope != apiextv1.ClusterScoped && scope != apiextv1.NamespaceScoped {
		return nil, fmt.Errorf("KubeFedConfig %s/%s: spec.scope is %q; it must be Cluster or Namespaced", config.Namespace, config.Name, scope)
	}
	log.Info(fmt.Sprintf("Using valid KubeFedConfig %q", config.Namespace+"/"+config.Name))
	if config.Spec.Scope == apiextv1.NamespaceScoped {
		log.Info(fmt.Sprintf("Hansa will be limited to the %q namespace", config.Namespace))
	} else {
		log.Info("Hansa will target all namespaces")
	}
	return config, nil
}

// settings reads what propagation needs. Worker counts are floors: Hansa's own are higher than KubeFed's default of 1.
func settings(config *corev1b1.KubeFedConfig) sync.Settings {
	s := sync.Settings{Adopt: true, Limited: config.Spec.Scope == apiextv1.NamespaceScoped}
	if c := config.Spec.SyncController; c != nil {
		if c.AdoptResources != nil {
			s.Adopt = *c.AdoptResources == corev1b1.AdoptResourcesEnabled
		}
		if c.MaxConcurrentReconciles != nil {
			s.Workers = int(*c.MaxConcurrentReconciles)
		}
	}
	return s
}

func pace(config *corev1b1.KubeFedConfig) cluster.Pace {
	return cluster.PaceFor(config.Spec.ClusterHealthCheck)
}

// lease returns the durations of leader election.
func lease(config *corev1b1.KubeFedConfig) (duration, deadline, retry time.Duration) {
	duration, deadline, retry = defaults.DefaultLeaderElectionLeaseDuration, defaults.DefaultLeaderElectionRenewDeadline, defaults.DefaultLeaderElectionRetryPeriod
	if c := config.Spec.LeaderElect; c != nil {
		for value, chosen := range map[*time.Duration]*metav1.Duration{&duration: c.LeaseDuration, &deadline: c.RenewDeadline, &retry: c.RetryPeriod} {
			if chosen != nil && chosen.Duration > 0 {
				*value = chosen.Duration
			}
		}
	}
	return duration, deadline, retry
}
