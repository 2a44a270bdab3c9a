package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/multicluster-runtime/pkg/multicluster"

	"github.com/hansa-dev/hansa/federation/api"
)

// Lifetimes of the tokens that the hub holds for members: long enough to outlive any outage, and renewed long before.
const (
	// TokenLifetime is what is asked for; an API server may grant less.
	TokenLifetime = 90 * 24 * time.Hour
	// tokenRenewal is the age at which a token is renewed, unless half of its life is over earlier.
	tokenRenewal = 24 * time.Hour
)

// RenewAt returns when a bound ServiceAccount token should be renewed: a day after it was issued, or when half of its
// life is over, whichever comes first. expires is when it ends. An error means that it is no bound token.
func RenewAt(token string) (renew, expires time.Time, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return renew, expires, errors.New("not a JSON web token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return renew, expires, fmt.Errorf("decoding the claims of a token: %w", err)
	}
	var claims struct {
		Issued  int64 `json:"iat"`
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return renew, expires, fmt.Errorf("decoding the claims of a token: %w", err)
	}
	if claims.Expires == 0 || claims.Issued == 0 || claims.Expires <= claims.Issued {
		return renew, expires, errors.New("the token does not end")
	}
	issued := time.Unix(claims.Issued, 0)
	expires = time.Unix(claims.Expires, 0)
	return issued.Add(min(tokenRenewal, expires.Sub(issued)/2)), expires, nil
}

// renew replaces the token of a member when its time has come, and returns how long until then otherwise. Secrets that
// name no ServiceAccount are left as they are: KubeFed's join made them, and their tokens do not end.
func (r *Reconciler) renew(ctx context.Context, kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) (time.Duration, error) {
	namespace, name, found := strings.Cut(secret.Annotations[api.TokenServiceAccountAnnotation], "/")
	if !found {
		return 0, nil
	}
	due, expires, err := RenewAt(string(secret.Data[api.TokenKey]))
	if err != nil {
		return 0, nil // a token without an end needs no renewal
	}
	tokenExpiry.WithLabelValues(kfc.Name).Set(float64(expires.Unix()))
	if wait := time.Until(due); wait > 0 {
		return wait, nil
	}
	member, err := r.Members.GetCluster(ctx, multicluster.ClusterName(kfc.Name))
	if err != nil {
		return 0, fmt.Errorf("cluster %q: %w", kfc.Name, err)
	}
	seconds := int64(TokenLifetime / time.Second)
	answer := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := member.GetClient().SubResource("token").Create(ctx, account, answer); err != nil {
		return 0, fmt.Errorf("asking cluster %q for a token of ServiceAccount %s/%s: %w", kfc.Name, namespace, name, err)
	}
	renewed := secret.DeepCopy()
	renewed.Data[api.TokenKey] = []byte(answer.Status.Token)
	renewed.Annotations[api.TokenExpiryAnnotation] = answer.Status.ExpirationTimestamp.UTC().Format(time.RFC3339)
	if err := r.Client.Update(ctx, renewed); err != nil {
		return 0, fmt.Errorf("storing the renewed token of cluster %q in Secret %q: %w", kfc.Name, secret.Name, err)
	}
	log.FromContext(ctx).Info("Renewed the token of a member", "cluster", kfc.Name, "expires", answer.Status.ExpirationTimestamp)
	return time.Minute, nil
}
