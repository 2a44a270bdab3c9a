package enrolment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/api"
)

const (
	// TokenPrefix and the ID of a join token name the Secret in the hub's namespace that knows the token: whom it is for, and
	// a hash.
	TokenPrefix = "hansa-join-token-"
	// TokenType is the type of such Secrets.
	TokenType corev1.SecretType = "hansa.dev/join-token" //nolint:gosec // the name of a type
	// tokenRole is the value of identity.RoleLabel on them.
	tokenRole = "join-token"

	// Keys of such Secrets.
	tokenClusterKey = "cluster" // the name of the KubeFedCluster
	tokenHashKey    = "hash"
	tokenExpiryKey  = "expires" // RFC 3339

	// DefaultTTL is how long a token is good for when nothing was said.
	DefaultTTL = time.Hour
	// MaxTTL is how long it is good for at most.
	MaxTTL = 24 * time.Hour
)

// CreateToken makes a join token for a cluster, by its KubeFedCluster's name, and keeps what the hub has to know of it in a
// Secret. A ttl of 0 means DefaultTTL. The token itself is kept nowhere.
func CreateToken(ctx context.Context, writer client.Writer, namespace, cluster string, ttl time.Duration) (Token, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	switch {
	case ttl < 0 || ttl > MaxTTL:
		return Token{}, fmt.Errorf("a join token cannot be good for %s: the most is %s", ttl, MaxTTL)
	case cluster == "":
		return Token{}, errors.New("a join token is for a cluster: name it")
	}
	token, err := newToken()
	if err != nil {
		return Token{}, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: TokenPrefix + token.ID,
			Labels: map[string]string{identity.RoleLabel: tokenRole, "app.kubernetes.io/managed-by": api.Controller},
		},
		Type: TokenType,
		Data: map[string][]byte{
			tokenClusterKey: []byte(cluster), tokenHashKey: []byte(token.hash()),
			tokenExpiryKey: []byte(time.Now().Add(ttl).UTC().Format(time.RFC3339)),
		},
	}
	if err := writer.Create(ctx, secret); err != nil {
		return Token{}, fmt.Errorf("creating secret %s/%s for the join token: %w", namespace, secret.Name, err)
	}
	return token, nil
}

// TokensOf returns the Secrets of the join tokens for a cluster, by its KubeFedCluster's name. To delete one takes it back.
func TokensOf(ctx context.Context, reader client.Reader, namespace, cluster string) ([]corev1.Secret, error) {
	secrets := &corev1.SecretList{}
	if err := reader.List(ctx, secrets, client.InNamespace(namespace), client.MatchingLabels{identity.RoleLabel: tokenRole}); err != nil {
		return nil, fmt.Errorf("listing the secrets of join tokens in namespace %s: %w", namespace, err)
	}
	return slices.DeleteFunc(secrets.Items, func(s corev1.Secret) bool {
		return s.Type != TokenType || string(s.Data[tokenClusterKey]) != cluster
	}), nil
}

// Tokens are the join tokens of a hub. Every replica checks them; the leader, which runs it, deletes those that have ended.
type Tokens struct {
	// Client may read from a cache: what counts is who deletes the Secret.
	Client    client.Client
	Namespace string // of the hub
	Log       logr.Logger
	Now       func() time.Time // nil: time.Now
}

// sweep is how often tokens that have ended are deleted.
const sweep = 10 * time.Minute

// ticket is a token that was found to be good.
type ticket struct {
	cluster string
	name    string // of the Secret
	uid     types.UID
}

// find returns what a token is for, if it is good. It returns ErrToken if it is not.
func (t *Tokens) find(ctx context.Context, text string) (ticket, error) {
	token, err := ParseToken(text)
	if err != nil {
		return ticket{}, errors.Join(ErrToken, err)
	}
	secret := &corev1.Secret{}
	err = t.Client.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: TokenPrefix + token.ID}, secret)
	if client.IgnoreNotFound(err) != nil {
		return ticket{}, fmt.Errorf("reading the secret of join token %s: %w", token, err)
	}
	good := token.matches(secret.Data[tokenHashKey]) // of none as well: both take the same time
	cluster := string(secret.Data[tokenClusterKey])
	if err != nil || !good || secret.Type != TokenType || cluster == "" || t.ended(secret) {
		return ticket{}, ErrToken
	}
	if len(secret.Finalizers) > 0 { // such an object can be deleted twice
		return ticket{}, fmt.Errorf("secret %s/%s has finalizers: %w", secret.Namespace, secret.Name, ErrToken)
	}
	return ticket{cluster: cluster, name: secret.Name, uid: secret.UID}, nil
}

func (t *Tokens) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

// ended tells whether a token's time is over. One without a time is.
func (t *Tokens) ended(secret *corev1.Secret) bool {
	expires, err := time.Parse(time.RFC3339, string(secret.Data[tokenExpiryKey]))
	return err != nil || !t.now().Before(expires)
}

// use makes a token worthless. It fails with ErrToken if somebody else did: of several who use it at once, on whatever
// replicas, the API server lets one delete it.
func (t *Tokens) use(ctx context.Context, ticket ticket) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: ticket.name}}
	err := t.Client.Delete(ctx, secret, client.Preconditions{UID: &ticket.uid})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return ErrToken
	case err != nil:
		return fmt.Errorf("deleting secret %s/%s of a join token, so that it cannot be used again: %w", t.Namespace, ticket.name, err)
	}
	return nil
}

// NeedLeaderElection says that one hub is enough to sweep.
func (t *Tokens) NeedLeaderElection() bool { return true }

// Start deletes tokens that have ended until ctx ends.
func (t *Tokens) Start(ctx context.Context) error {
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	for {
		if err := t.Sweep(ctx); err != nil && ctx.Err() == nil {
			t.Log.Error(err, "Join tokens that have ended are not deleted")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Sweep deletes tokens that have ended.
func (t *Tokens) Sweep(ctx context.Context) error {
	secrets := &corev1.SecretList{}
	if err := t.Client.List(ctx, secrets, client.InNamespace(t.Namespace), client.MatchingLabels{identity.RoleLabel: tokenRole}); err != nil {
		return fmt.Errorf("listing the secrets of join tokens: %w", err)
	}
	var problems []error
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		if secret.Type != TokenType || !t.ended(secret) {
			continue
		}
		err := t.Client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("deleting secret %s/%s: %w", secret.Namespace, secret.Name, err))
		}
	}
	return errors.Join(problems...)
}
