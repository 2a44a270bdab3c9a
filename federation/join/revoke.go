package join

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// clusterID returns the id of a cluster in the clusterset; empty when it had none, or the host knows nothing of ids.
func (j *Joiner) clusterID(ctx context.Context, o UnjoinOptions) string {
	info := &v1alpha1.ClusterInfo{}
	if err := j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Name}, info); err != nil {
		return "" // it has no certificates that anybody knows of
	}
	return info.Status.ClusterID
}

// revokeCertificates takes back the certificates of a cluster that has left, by its id: whoever has one may not connect any more. One
// that joins again, under the same id, gets new ones.
func (j *Joiner) revokeCertificates(ctx context.Context, o UnjoinOptions, id string) error {
	if id == "" {
		return nil
	}
	revocation := &v1alpha1.Revocation{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: id}}
	what := describe(j.host.client, revocation)
	err := j.host.client.Get(ctx, client.ObjectKeyFromObject(revocation), revocation)
	missing := apierrors.IsNotFound(err)
	switch {
	case apimeta.IsNoMatchError(err): // prepared by an older version, which knows no agents
		return nil
	case err != nil && !missing:
		return fmt.Errorf("reading %s in %s: %w", what, j.host.Name, err)
	case j.dry:
		j.did("written to", what, j.host)
		return nil
	}
	revocation.Spec = v1alpha1.RevocationSpec{Before: j.hostTime(ctx, o.Namespace), Reason: "the cluster was unjoined"}
	if missing {
		err = j.host.client.Create(ctx, revocation)
	} else {
		err = j.host.client.Update(ctx, revocation)
	}
	if err != nil {
		return fmt.Errorf("revoking the certificates of cluster %s (%s in %s): %w", id, what, j.host.Name, err)
	}
	j.report("%s written to %s: certificates of the cluster that were issued so far are no longer good", what, j.host.Name)
	return nil
}

// hostTime is the time of the host cluster: that of who unjoins may be wrong. Certificates count seconds.
func (j *Joiner) hostTime(ctx context.Context, namespace string) metav1.Time {
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "hansa-time-"}}
	if err := j.host.client.Create(ctx, probe, client.DryRunAll); err != nil || probe.CreationTimestamp.IsZero() {
		return metav1.NewTime(time.Now().Truncate(time.Second))
	}
	return probe.CreationTimestamp
}
