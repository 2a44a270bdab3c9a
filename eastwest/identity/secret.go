package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// Names of the Secrets in the hub's namespace. All are of type kubernetes.io/tls, with the trusted roots in CAKey.
const (
	// AuthoritySecret holds the authority.
	AuthoritySecret = "hansa-ca"
	// AdminSecret holds a certificate of AdminID.
	AdminSecret = "hansa-xds-admin"
	// ClientSecretPrefix and the name of a KubeFedCluster name the Secret with a certificate for clients in that cluster.
	ClientSecretPrefix = "hansa-xds-client-"
	// CAKey is the key of the trusted roots.
	CAKey = "ca.crt"

	// RoleLabel on a Secret says that Hansa made it, and for which role.
	RoleLabel = "hansa.dev/identity"
	// authorityRole is the value of RoleLabel on AuthoritySecret.
	authorityRole = "authority"
)

// ClientSecret returns the name of the Secret with a certificate for clients in a cluster, by its KubeFedCluster's name.
func ClientSecret(cluster string) string { return ClientSecretPrefix + cluster }

// ErrNoAuthority says that there is no Secret with an authority yet.
var ErrNoAuthority = errors.New("there is no authority yet")

// ReadAuthority reads the authority from its Secret. It returns ErrNoAuthority when there is none.
func ReadAuthority(ctx context.Context, reader client.Reader, namespace string, td spiffeid.TrustDomain, now func() time.Time) (*Authority, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: AuthoritySecret}, secret)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("secret %s/%s: %w; the leading hub makes it", namespace, AuthoritySecret, ErrNoAuthority)
	}
	if err != nil {
		return nil, fmt.Errorf("reading secret %s/%s: %w", namespace, AuthoritySecret, err)
	}
	authority, err := ParseAuthority(td, secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[CAKey], now)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s holds no usable authority: %w. Put back what it held; or delete it and restart the hubs, "+
			"which makes a new authority, and give all clients new certificates (hansa xds bootstrap)", namespace, AuthoritySecret, err)
	}
	return authority, nil
}

// createAuthority stores an authority where there is none. It fails with AlreadyExists when somebody was faster, and
// changes nothing then.
func createAuthority(ctx context.Context, writer client.Writer, namespace string, authority *Authority) error {
	key, err := encodeKey(authority.key)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: AuthoritySecret, Labels: labels(authorityRole)},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey:       encodeCertificates(authority.certificate),
			corev1.TLSPrivateKeyKey: key,
			CAKey:                   authority.BundlePEM(),
		},
	}
	if err := writer.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating secret %s/%s: %w", namespace, AuthoritySecret, err)
	}
	return nil
}

// labels of what Hansa makes.
func labels(role string) map[string]string {
	return map[string]string{RoleLabel: role, "app.kubernetes.io/managed-by": api.Controller}
}
