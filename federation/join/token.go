package join

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
)

const (
	// grantTimeout bounds the wait for the rules of the aggregated role, which a controller of the member gathers.
	grantTimeout = 30 * time.Second
	grantPoll    = 200 * time.Millisecond
	// quiet is how long something may take before progress is reported.
	quiet = 2 * time.Second
)

// requestToken asks the member for a bound token of the hub's ServiceAccount.
func (j *Joiner) requestToken(ctx context.Context, hub account) (string, time.Time, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(cluster.TokenLifetime / time.Second)),
	}}
	identity := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: hub.Name}}
	if err := j.member.client.SubResource("token").Create(ctx, identity, request); err != nil {
		return "", time.Time{}, fmt.Errorf("requesting a token of serviceaccount/%s/%s from %s: %w", hub.Namespace, hub.Name, j.member.Name, err)
	}
	expiry := request.Status.ExpirationTimestamp.Time
	j.report("token of serviceaccount/%s/%s issued by %s, valid until %s (the hub renews it)",
		hub.Namespace, hub.Name, j.member.Name, expiry.UTC().Format(time.RFC3339))
	return request.Status.Token, expiry, nil
}

// tokenSecret returns the Secret of the host that holds a token.
func tokenSecret(o Options, hub account, token string, expiry time.Time) *corev1.Secret {
	wanted := &corev1.Secret{
		ObjectMeta: meta(o.Namespace, o.SecretName),
		Data:       map[string][]byte{api.TokenKey: []byte(token)},
	}
	wanted.Annotations = map[string]string{
		ClusterAnnotation:                 o.Name,
		api.TokenServiceAccountAnnotation: hub.Namespace + "/" + hub.Name,
		api.TokenExpiryAnnotation:         expiry.UTC().Format(time.RFC3339),
	}
	return wanted
}

// storeToken writes the token to a Secret in the host: the one of that name, the one that the registration refers to,
// the one that an interrupted join left, or a new one.
func (j *Joiner) storeToken(ctx context.Context, o Options, found *findings, wanted *corev1.Secret) (*corev1.Secret, error) {
	live, err := j.existingSecret(ctx, o, found)
	if err != nil {
		return nil, err
	}
	if live == nil {
		if wanted.Name == "" {
			wanted.GenerateName = o.Name + "-"
		}
		if err := j.host.client.Create(ctx, wanted); err != nil {
			return nil, fmt.Errorf("creating the Secret for the token of %s in %s: %w", o.Name, j.host.Name, err)
		}
		j.report("%s created in %s", describe(j.host.client, wanted), j.host.Name)
		return wanted, nil
	}
	live.Labels = merge(live.Labels, wanted.Labels)
	live.Annotations = merge(live.Annotations, wanted.Annotations)
	if live.Data == nil {
		live.Data = map[string][]byte{}
	}
	live.Data[api.TokenKey] = wanted.Data[api.TokenKey]
	if err := j.host.client.Update(ctx, live); err != nil {
		return nil, fmt.Errorf("updating %s in %s: %w", describe(j.host.client, live), j.host.Name, err)
	}
	j.report("%s updated in %s", describe(j.host.client, live), j.host.Name)
	return live, nil
}

// existingSecret finds the Secret to write the token to; nil when one has to be made.
func (j *Joiner) existingSecret(ctx context.Context, o Options, found *findings) (*corev1.Secret, error) {
	name := o.SecretName
	if name == "" && found.cluster != nil {
		name = found.cluster.Spec.SecretRef.Name
	}
	if name == "" {
		left, err := j.secretsOf(ctx, o.Namespace, o.Name)
		if err != nil || len(left) == 0 {
			return nil, err
		}
		return &left[0], nil
	}
	live := &corev1.Secret{}
	err := j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: name}, live)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // absent is an answer, not a failure
	case err != nil:
		return nil, fmt.Errorf("reading secret/%s/%s in %s: %w", o.Namespace, name, j.host.Name, err)
	case o.ErrorOnExisting && live.Annotations[ClusterAnnotation] != o.Name:
		return nil, fmt.Errorf("host cluster secret %s %w and is not of an earlier join of %s. Choose another --secret-name, or repeat with --error-on-existing=false to overwrite its token",
			name, ErrExists, o.Name)
	}
	return live, nil
}

// secretsOf lists the Secrets that joins of a cluster left in the host, sorted by name.
func (j *Joiner) secretsOf(ctx context.Context, namespace, name string) ([]corev1.Secret, error) {
	all := &corev1.SecretList{}
	if err := j.host.client.List(ctx, all, client.InNamespace(namespace), client.MatchingLabels{ManagedByLabel: ManagedBy}); err != nil {
		return nil, fmt.Errorf("listing Secrets in namespace %s of %s: %w", namespace, j.host.Name, err)
	}
	var own []corev1.Secret
	for _, secret := range all.Items { // the API server lists by name
		if secret.Annotations[ClusterAnnotation] == name {
			own = append(own, secret)
		}
	}
	return own, nil
}

// tryCredentials does with the new token what the hub will do: it talks to the member through the same configuration,
// and asks whether it may do what every join grants.
func (j *Joiner) tryCredentials(ctx context.Context, o Options, scope apiextv1.ResourceScope, registration *corev1b1.KubeFedCluster, secret *corev1.Secret) error {
	config, err := cluster.RESTConfig(registration, secret)
	if err != nil {
		return err
	}
	if _, err := serverVersion(ctx, config); err != nil {
		return fmt.Errorf("%s does not answer with the new credentials (endpoint %s): %w\n%s", o.Name, config.Host, err, Advice(err))
	}
	asking := &Cluster{Name: o.Name, Context: j.member.Context, Config: config}
	if err := asking.open(); err != nil {
		return err
	}
	question := authorizationv1.ResourceAttributes{Verb: "list", Resource: "nodes"}
	if scope == apiextv1.NamespaceScoped {
		question = authorizationv1.ResourceAttributes{Verb: "list", Resource: "configmaps", Namespace: o.Namespace}
	}
	return j.awaitGrant(ctx, asking, question)
}

// awaitGrant waits until the member's authorizer, which follows its roles a moment behind, allows the hub what is asked.
func (j *Joiner) awaitGrant(ctx context.Context, asking *Cluster, question authorizationv1.ResourceAttributes) error {
	var refused string
	err := wait.PollUntilContextTimeout(ctx, grantPoll, grantTimeout, true, func(ctx context.Context) (bool, error) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &question}}
		if err := asking.client.Create(ctx, review); err != nil {
			return false, fmt.Errorf("asking %s what the hub may do: %w", asking.Name, err)
		}
		refused = cmp.Or(review.Status.Reason, "no reason given")
		return review.Status.Allowed, nil
	})
	if timedOut(ctx, err) {
		return fmt.Errorf("%s does not let the hub %s %s within %s (%s), though the roles that grant it are there. See what it has: kubectl --context=%s get clusterrole %s -o yaml",
			asking.Name, question.Verb, question.Resource, grantTimeout, refused, asking.Context, HubRole)
	}
	if err != nil {
		return err
	}
	j.report("the hub can use %s with its new token", asking.Name)
	return nil
}

// timedOut tells a wait that took too long from one that somebody interrupted.
func timedOut(ctx context.Context, err error) bool {
	return wait.Interrupted(err) && ctx.Err() == nil
}

func parseVersion(body []byte) (*version.Info, error) {
	info := &version.Info{}
	if err := json.Unmarshal(body, info); err != nil {
		return nil, fmt.Errorf("the answer to /version is not a Kubernetes API server's: %w", err)
	}
	return info, nil
}
