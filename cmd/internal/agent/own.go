package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
)

// own follows the own cluster by its API, so that what changes there needs no hub.
type own struct {
	config *rest.Config // nil: it is left alone
	token  func() ([]byte, error)
	log    logr.Logger

	watcher *exports.Watcher

	mu      sync.Mutex
	used    []byte
	member  *cluster.Member
	changed chan struct{}
}

// newOwn returns what follows a cluster, by its id. Without a token for its API, it is left alone.
func newOwn(config *rest.Config, id string, log logr.Logger) (*own, error) {
	o := &own{log: log.WithName("own"), changed: make(chan struct{})}
	switch {
	case config == nil:
		return o, nil
	case config.BearerTokenFile != "":
		o.token = func() ([]byte, error) { return os.ReadFile(config.BearerTokenFile) }
	case config.BearerToken != "":
		o.token = func() ([]byte, error) { return []byte(config.BearerToken), nil }
	default:
		o.log.Info("What changes in the own cluster is known from the hub only: the kubeconfig has no token of a ServiceAccount, only another credential")
		return o, nil
	}
	loaded := rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(loaded); err != nil {
		return nil, fmt.Errorf("reading the roots of the API of the own cluster: %w", err)
	}
	o.config = loaded
	if err := o.refresh(); err != nil {
		return nil, err
	}
	o.watcher = exports.NewWatcher(exports.Options{Members: o, ClusterID: id, Log: o.log})
	return o, nil
}

// snapshots are those of the own cluster alone; nil when it is left alone.
func (o *own) snapshots() feed.Snapshots {
	if o.watcher == nil {
		return nil
	}
	return o.watcher
}

// Current implements exports.Members.
func (o *own) Current() ([]*cluster.Member, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return []*cluster.Member{o.member}, o.changed
}

// tokenPeriod is how often it is looked whether the token is another one: kubelets renew it long before it ends.
const tokenPeriod = 30 * time.Second

// run follows until ctx ends.
func (o *own) run(ctx context.Context) error {
	if o.watcher == nil {
		<-ctx.Done()
		return nil
	}
	var refreshing sync.WaitGroup
	refreshing.Go(func() { o.keep(ctx) })
	defer refreshing.Wait()
	return o.watcher.Run(ctx)
}

func (o *own) keep(ctx context.Context) {
	tick := time.NewTicker(tokenPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := o.refresh(); err != nil {
				o.log.Error(err, "The token for the API of the own cluster cannot be renewed; the one before is used")
			}
		case <-ctx.Done():
			return
		}
	}
}

// refresh makes a member with the token of the day. Its health is never in question: watches try again by themselves.
func (o *own) refresh() error {
	token, err := o.token()
	if err != nil {
		return fmt.Errorf("reading the token for the API of the own cluster: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if bytes.Equal(token, o.used) {
		return nil
	}
	registration := &corev1b1.KubeFedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "own", UID: "own"},
		Spec: corev1b1.KubeFedClusterSpec{
			APIEndpoint: o.config.Host, CABundle: o.config.CAData, SecretRef: corev1b1.LocalSecretReference{Name: "own"},
		},
	}
	if o.config.Insecure {
		registration.Spec.DisabledTLSValidations = []corev1b1.TLSValidation{corev1b1.TLSAll}
	}
	secret := &corev1.Secret{Data: map[string][]byte{api.TokenKey: bytes.TrimSpace(token)}}
	healthy := cluster.Health{Ready: corev1.ConditionTrue, Offline: corev1.ConditionFalse}
	member, err := cluster.NewMember(registration, secret, healthy)
	if err != nil {
		return fmt.Errorf("connecting to the API of the own cluster: %w", err)
	}
	o.used, o.member = token, member
	close(o.changed)
	o.changed = make(chan struct{})
	return nil
}
