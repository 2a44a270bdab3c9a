package join

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// unjoiningAnnotation on a Revocation names the cluster whose unjoin has begun and not got as far as to revoke everything: its
// ClusterInfo, which knows the id otherwise, may be gone by then.
const unjoiningAnnotation = "hansa.dev/unjoining"

// certified is whose certificates an unjoin takes back.
type certified struct {
	id    string // of the cluster in the clusterset; empty when it had none, or the host knows nothing of ids
	begun bool   // an earlier unjoin was interrupted
}

// certificatesOf finds out under which id a cluster has certificates. Not to know is an error: they would stay good.
func (j *Joiner) certificatesOf(ctx context.Context, o UnjoinOptions) (certified, error) {
	info := &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}}
	what := describe(j.host.client, info)
	err := j.host.client.Get(ctx, client.ObjectKeyFromObject(info), info)
	switch {
	case err == nil && info.Status.ClusterID != "":
		return certified{id: info.Status.ClusterID}, nil
	case apimeta.IsNoMatchError(err): // prepared by an older version, which knows no agents
		return certified{}, nil
	case client.IgnoreNotFound(err) != nil:
		return certified{}, unknownCertificates(what, j.host, err)
	}
	revocations := &v1alpha1.RevocationList{}
	err = j.host.client.List(ctx, revocations, client.InNamespace(o.Namespace))
	switch {
	case apimeta.IsNoMatchError(err):
		return certified{}, nil
	case err != nil:
		return certified{}, unknownCertificates("revocations in namespace "+o.Namespace, j.host, err)
	}
	for i := range revocations.Items {
		if revocations.Items[i].Annotations[unjoiningAnnotation] == o.Name {
			return certified{id: revocations.Items[i].Name, begun: true}, nil
		}
	}
	return certified{}, nil
}

func unknownCertificates(what string, host *Cluster, err error) error {
	return fmt.Errorf("reading %s in %s: %w\nNothing was changed: without the id of the cluster its certificates could not be revoked. See that you may read this, and repeat the unjoin",
		what, host.Name, err)
}

// revokeCertificates takes back the certificates of a cluster that leaves, by its id: whoever has one may not connect any
// more. One that joins again, under the same id, gets new ones. It is done twice: at first, so that an unjoin that is
// interrupted has done it and can be repeated; and last, when nobody in the cluster can get another certificate.
func (j *Joiner) revokeCertificates(ctx context.Context, o UnjoinOptions, id string, last bool) error {
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
		return fmt.Errorf("reading %s in %s: %w\nRepeat the unjoin", what, j.host.Name, err)
	case j.dry:
		if last {
			j.did("written to", what, j.host)
		}
		return nil
	}
	now, err := HostTime(ctx, j.host.client, o.Namespace)
	if err != nil {
		return fmt.Errorf("revoking the certificates of cluster %s (%s in %s): %w\nRepeat the unjoin", id, what, j.host.Name, err)
	}
	revocation.Spec = v1alpha1.RevocationSpec{Before: now, Reason: "the cluster was unjoined"}
	delete(revocation.Annotations, unjoiningAnnotation)
	if !last {
		metav1.SetMetaDataAnnotation(&revocation.ObjectMeta, unjoiningAnnotation, o.Name)
	}
	if missing {
		err = j.host.client.Create(ctx, revocation)
	} else {
		err = j.host.client.Update(ctx, revocation)
	}
	if err != nil {
		return fmt.Errorf("revoking the certificates of cluster %s (%s in %s): %w\nRepeat the unjoin", id, what, j.host.Name, err)
	}
	if last {
		j.report("%s written to %s: certificates of the cluster that were issued so far are no longer good", what, j.host.Name)
	}
	return nil
}

// deleteTokens deletes the join tokens of a cluster that leaves: one that joins under the same name is another one.
func (j *Joiner) deleteTokens(ctx context.Context, o UnjoinOptions) error {
	tokens, err := enrolment.TokensOf(ctx, j.host.client, o.Namespace, o.Name)
	if err != nil {
		return fmt.Errorf("join tokens of cluster %s in %s: %w\nRepeat the unjoin", o.Name, j.host.Name, err)
	}
	for i := range tokens {
		if err := j.delete(ctx, j.host, &tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

// HostTime returns the time of a host cluster's API server, to the second: that of who asks may be wrong, and a Revocation with
// a time in the future would keep a cluster out that has proved anew who it is. Whoever may write Revocations may ask.
func HostTime(ctx context.Context, host client.Writer, namespace string) (metav1.Time, error) {
	probe := &v1alpha1.Revocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "hansa-time-"},
		Spec:       v1alpha1.RevocationSpec{Before: metav1.Unix(0, 0), Reason: "to ask for the time"},
	}
	if err := host.Create(ctx, probe, client.DryRunAll); err != nil {
		return metav1.Time{}, fmt.Errorf("asking the API server for its time (a dry run of creating a revocation in namespace %s): %w", namespace, err)
	}
	if probe.CreationTimestamp.IsZero() {
		return metav1.Time{}, fmt.Errorf("the API server does not say what time it is: a dry run of creating a revocation in namespace %s has no creation time", namespace)
	}
	return metav1.NewTime(probe.CreationTimestamp.Truncate(time.Second)), nil
}
