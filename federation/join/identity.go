package join

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// ErrOtherCluster marks an unjoin through a context that does not lead to the registered cluster.
var ErrOtherCluster = errors.New("does not lead to the cluster that is registered")

// evidence is what a cluster tells about itself to whoever asks which one it is.
type evidence struct {
	ClusterUID types.UID              // of the namespace kube-system
	Account    *corev1.ServiceAccount // of the hub; nil: not there
}

// proves tells whether a cluster is the one that a hub registered; nil when it is. A registration without the UID of
// its cluster (KubeFed's, or one that is gone already) is proven by the hub's ServiceAccount.
func (e evidence) proves(registered *corev1b1.KubeFedCluster, hubUID types.UID, hub account) error {
	var known string
	if registered != nil {
		known = registered.Annotations[api.ClusterUIDAnnotation]
	}
	switch {
	case known != "" && known != string(e.ClusterUID):
		return fmt.Errorf("its namespace kube-system has the UID %s, that of the registered cluster has %s", e.ClusterUID, known)
	case e.Account == nil && known == "":
		return fmt.Errorf("it has no serviceaccount/%s/%s, which joining made (its second half is --host-cluster-name)", hub.Namespace, hub.Name)
	case e.Account == nil:
		return nil
	}
	if owner := e.Account.Annotations[HubAnnotation]; owner != "" && owner != string(hubUID) {
		return fmt.Errorf("its serviceaccount/%s/%s belongs to another hub", hub.Namespace, hub.Name)
	}
	return nil
}

// uidOf returns the UID of a namespace of a cluster.
func (c *Cluster) uidOf(ctx context.Context, namespace string) (types.UID, error) {
	live := &corev1.Namespace{}
	if err := c.client.Get(ctx, client.ObjectKey{Name: namespace}, live); err != nil {
		return "", fmt.Errorf("reading namespace %s in %s: %w\n%s", namespace, c.Name, err, Advice(err))
	}
	return live.UID, nil
}

// checkIdentity is ErrOtherCluster, with the reason, unless the member context leads to the registered cluster.
func (j *Joiner) checkIdentity(ctx context.Context, o UnjoinOptions, found *registered) error {
	hubUID, err := j.host.uidOf(ctx, o.Namespace)
	if err != nil {
		return err
	}
	shown := evidence{}
	if shown.ClusterUID, err = j.member.uidOf(ctx, metav1.NamespaceSystem); err != nil {
		return err
	}
	identity := &corev1.ServiceAccount{}
	err = j.member.client.Get(ctx, client.ObjectKey{Namespace: found.hub.Namespace, Name: found.hub.Name}, identity)
	switch {
	case err == nil:
		shown.Account = identity
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading serviceaccount/%s/%s in %s: %w\n%s", found.hub.Namespace, found.hub.Name, j.member.Name, err, Advice(err))
	}
	if err := shown.proves(found.cluster, hubUID, found.hub); err != nil {
		return fmt.Errorf("context %q %w as %s: %w", j.member.Context, ErrOtherCluster, o.Name, err)
	}
	return nil
}
