package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// Names of the Secrets in the hub's namespace. All are of type kubernetes.io/tls, with the trusted roots in CAKey.
const (
	// AuthoritySecret holds the root, and during a rotation the next one. Whatever certificates are in its CAKey are trusted.
	AuthoritySecret = "hansa-ca"
	// IntermediateSecret holds the authority below the root that signs everything.
	IntermediateSecret = "hansa-ca-intermediate"
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
	// intermediateRole is the value of RoleLabel on IntermediateSecret.
	intermediateRole = "intermediate"

	// signsAnnotation on AuthoritySecret says, with the value signsIntermediates, that the root signs nothing but
	// intermediates.
	signsAnnotation    = "hansa.dev/signs"
	signsIntermediates = "intermediates"
)

// ClientSecret returns the name of the Secret with a certificate for clients in a cluster, by its KubeFedCluster's name.
func ClientSecret(cluster string) string { return ClientSecretPrefix + cluster }

// ErrNoAuthority says that there is no Secret with an authority yet.
var ErrNoAuthority = errors.New("there is no authority yet")

// ReadAuthority reads the root from its Secret. It returns ErrNoAuthority when there is none.
func ReadAuthority(ctx context.Context, reader client.Reader, namespace string, td spiffeid.TrustDomain, now func() time.Time) (*Authority, error) {
	root, _, err := store{reader: reader, namespace: namespace, trustDomain: td, now: now}.root(ctx)
	return root, err
}

// store is where the authority of a hub is.
type store struct {
	reader      client.Reader
	namespace   string
	trustDomain spiffeid.TrustDomain
	external    string // the Secret of an external issuer; empty: the hub is its own
	now         func() time.Time
}

// issuer returns what signs: the external issuer, the intermediate, or a root without one.
func (s store) issuer(ctx context.Context) (*Authority, error) {
	if s.external != "" {
		return s.readExternal(ctx)
	}
	root, secret, err := s.root(ctx)
	if err != nil {
		return nil, err
	}
	below := &corev1.Secret{}
	err = s.reader.Get(ctx, s.key(IntermediateSecret), below)
	switch {
	case apierrors.IsNotFound(err) && secret.Annotations[signsAnnotation] != signsIntermediates:
		return root, nil // of an older hub, which is about to be replaced, or brought by somebody
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("secret %s: %w; the leading hub makes it", s.key(IntermediateSecret), ErrNoAuthority)
	case err != nil:
		return nil, fmt.Errorf("reading secret %s: %w", s.key(IntermediateSecret), err)
	}
	intermediate, err := root.ParseIntermediate(below.Data[corev1.TLSCertKey], below.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s holds no usable intermediate: %w. The leading hub makes another one", s.key(IntermediateSecret), err)
	}
	return intermediate, nil
}

func (s store) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: s.namespace, Name: name}
}

// root reads the root with its Secret, which must not be changed.
func (s store) root(ctx context.Context) (*Authority, *corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := s.reader.Get(ctx, s.key(AuthoritySecret), secret)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("secret %s: %w; the leading hub makes it", s.key(AuthoritySecret), ErrNoAuthority)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading secret %s: %w", s.key(AuthoritySecret), err)
	}
	root, err := s.parseRoot(secret)
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s holds no usable authority: %w. Put back what it held; or delete it and restart the hubs, "+
			"which makes a new authority, and give all clients new certificates (hansa xds bootstrap)", s.key(AuthoritySecret), err)
	}
	return root, secret, nil
}

func (s store) parseRoot(secret *corev1.Secret) (*Authority, error) {
	return ParseAuthority(s.trustDomain, secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[CAKey], s.now)
}

// readExternal reads what an external issuer gave. The roots of AuthoritySecret, if there is one, are trusted besides: those
// who have certificates from before go on, and so do two external issuers that take turns.
func (s store) readExternal(ctx context.Context) (*Authority, error) {
	secret := &corev1.Secret{}
	err := s.reader.Get(ctx, s.key(s.external), secret)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("secret %s: %w; the external issuer has to make it (with cert-manager: a Certificate with isCA: true)", s.key(s.external), ErrNoAuthority)
	}
	if err != nil {
		return nil, fmt.Errorf("reading secret %s: %w", s.key(s.external), err)
	}
	own := &corev1.Secret{}
	if err := s.reader.Get(ctx, s.key(AuthoritySecret), own); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading secret %s: %w", s.key(AuthoritySecret), err)
	}
	issuer, err := ParseExternal(s.trustDomain, secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[CAKey], own.Data[CAKey], s.now)
	if err != nil {
		return nil, fmt.Errorf("secret %s of the external issuer cannot be used: %w", s.key(s.external), err)
	}
	return issuer, nil
}

// labels of what Hansa makes.
func labels(role string) map[string]string {
	return map[string]string{RoleLabel: role, "app.kubernetes.io/managed-by": api.Controller}
}
