package join

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// retire ends what earlier joins of the same member left, now that the new credentials work and are registered: rights
// that are not asked for any more, tokens that never end, and Secrets of the host that nothing refers to.
func (j *Joiner) retire(ctx context.Context, o Options, hub account, found *findings, used string) error {
	var problems []error
	switch {
	case o.ClusterAdmin || found.scope == apiextv1.NamespaceScoped:
		problems = append(problems, j.revoke(ctx, guard(hub), "it would narrow what was asked for"))
	default:
		surplus := adminGrant(hub)
		slices.Reverse(surplus) // the binding first: no moment with more than before
		problems = append(problems, j.revoke(ctx, surplus, "it granted more than is asked for"))
	}
	problems = append(problems, j.retireTokens(ctx, hub), j.retireSecrets(ctx, o, found, used))
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%w\nThe cluster is joined, with its new token; repeat with --error-on-existing=false to end what was there before", err)
	}
	return nil
}

// revoke takes away what an earlier join gave the same ServiceAccount.
func (j *Joiner) revoke(ctx context.Context, objects []client.Object, why string) error {
	for _, object := range objects {
		what := describe(j.member.client, object)
		err := j.member.client.Delete(ctx, object, j.deletion()...)
		switch {
		case apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err):
		case err != nil:
			return fmt.Errorf("deleting %s in %s (%s): %w", what, j.member.Name, why, err)
		default:
			j.did("deleted in", what, j.member)
			j.report("  %s", why)
		}
	}
	return nil
}

// retireTokens deletes the Secrets with tokens of the hub's ServiceAccount that never end: KubeFed's join makes one.
func (j *Joiner) retireTokens(ctx context.Context, hub account) error {
	all := &corev1.SecretList{}
	if err := j.member.client.List(ctx, all, client.InNamespace(hub.Namespace)); err != nil {
		return fmt.Errorf("listing Secrets in namespace %s of %s: %w", hub.Namespace, j.member.Name, err)
	}
	var problems []error
	for i := range all.Items {
		if !endlessToken(&all.Items[i], hub) {
			continue
		}
		problems = append(problems, j.delete(ctx, j.member, &all.Items[i]))
		j.report("  it held a token of the hub that never ends")
	}
	return errors.Join(problems...)
}

// endlessToken tells whether a Secret holds a token of the hub that is valid as long as the Secret exists.
func endlessToken(secret *corev1.Secret, hub account) bool {
	return secret.Type == corev1.SecretTypeServiceAccountToken && secret.Annotations[corev1.ServiceAccountNameKey] == hub.Name
}

// retireSecrets deletes the Secrets that earlier joins of the member left in the host, and the one that its registration
// referred to before, unless another cluster uses it too.
func (j *Joiner) retireSecrets(ctx context.Context, o Options, found *findings, used string) error {
	own, err := j.secretsOf(ctx, o.Namespace, o.Name)
	if err != nil {
		return err
	}
	all := &corev1b1.KubeFedClusterList{}
	if err := j.host.client.List(ctx, all, client.InNamespace(o.Namespace)); err != nil {
		return fmt.Errorf("listing KubeFedClusters in namespace %s of %s: %w", o.Namespace, j.host.Name, err)
	}
	names := []string{}
	for _, secret := range own {
		names = append(names, secret.Name)
	}
	if found.cluster != nil {
		names = append(names, found.cluster.Spec.SecretRef.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" || name == used || sharedSecret(all.Items, o.Name, name) {
			continue
		}
		secret := &corev1.Secret{ObjectMeta: meta(o.Namespace, name)}
		if err := j.delete(ctx, j.host, secret); err != nil {
			return err
		}
	}
	return nil
}

// sharedSecret tells whether a registration other than the named one refers to a Secret.
func sharedSecret(all []corev1b1.KubeFedCluster, except, secret string) bool {
	return slices.ContainsFunc(all, func(c corev1b1.KubeFedCluster) bool {
		return c.Name != except && c.Spec.SecretRef.Name == secret
	})
}
