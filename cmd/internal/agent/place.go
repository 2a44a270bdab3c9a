package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ownAPI is how to reach the API of the own cluster; nil when it is to be left alone, or there is no way to know.
func (o *GatewayOptions) ownAPI() (*rest.Config, error) {
	if o.Kubeconfig == off {
		return nil, nil //nolint:nilnil // to do without is an ordinary choice
	}
	if o.Kubeconfig == "" && o.Context == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, nil //nolint:nilnil // likewise
		}
		if err != nil {
			return nil, fmt.Errorf("reading how to reach the API of the own cluster; outside of it, give --kubeconfig: %w", err)
		}
		return config, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the API of the own cluster (--kubeconfig, --context): %w", err)
	}
	config.UserAgent = "hansa-agent"
	return config, nil
}

// How often the zone of the node is asked for: until it is known, and then, since labels may be changed.
const (
	placeHurry   = time.Second
	placePeriod  = 5 * time.Minute
	placeTimeout = 10 * time.Second
)

// place is where the gateway's node stands.
type place struct {
	node   string
	config *rest.Config // nil: nobody is asked
	log    logr.Logger

	mu   sync.Mutex
	zone string
}

// Zone returns the zone; empty while it is not known.
func (p *place) Zone() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.zone
}

// run asks until ctx ends.
func (p *place) run(ctx context.Context) error {
	if p.config == nil {
		p.log.Info("The API of the own cluster is left alone: what changes there is known from the hub only. Outside of the cluster, give --kubeconfig")
		<-ctx.Done()
		return nil
	}
	api, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return fmt.Errorf("making a client for the API of the own cluster: %w", err)
	}
	for {
		pause := placePeriod
		if err := p.ask(ctx, api); err != nil {
			p.log.V(1).Info("The zone of the node is not known", "node", p.node, "reason", err.Error())
			pause = placeHurry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *place) ask(ctx context.Context, api kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	node, err := api.CoreV1().Nodes().Get(ctx, p.node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading node %s: %w", p.node, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zone = node.Labels[corev1.LabelTopologyZone]
	return nil
}
