package identity

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (k *Keeper) store() store {
	o := &k.options
	return store{reader: o.Client, namespace: o.Namespace, trustDomain: o.TrustDomain, external: o.External, now: o.Now}
}

// ensureIssuer returns what signs: the external issuer, or the intermediate below the hub's own root. It makes both if there
// are none, and replaces them when it is time. A rotation of the root that stands still is noted, and stops nothing else.
func (k *Keeper) ensureIssuer(ctx context.Context, note func(subject string, err error)) (*Authority, error) {
	if k.options.External != "" {
		return k.store().issuer(ctx)
	}
	root, secret, err := k.ensureRoot(ctx)
	if err != nil {
		return nil, err
	}
	rotated, changed, err := k.rotateRoot(ctx, root, secret)
	if err != nil {
		note("the root", err)
	} else {
		root, secret = rotated, changed
	}
	k.last = secret
	if !root.delegates() {
		return root, nil
	}
	return k.ensureIntermediate(ctx, root, secret)
}

// ensureRoot reads the root, or makes one. Creation is what decides between two hubs that both find none: the loser reads
// the other's.
func (k *Keeper) ensureRoot(ctx context.Context) (*Authority, *corev1.Secret, error) {
	root, secret, err := k.store().root(ctx)
	if !errors.Is(err, ErrNoAuthority) {
		return root, secret, err
	}
	secret, err = k.makeRoot(ctx)
	switch {
	case apierrors.IsAlreadyExists(err):
		return k.store().root(ctx)
	case err != nil:
		return nil, nil, err
	}
	root, err = k.store().parseRoot(secret) // a cache may not have it yet
	return root, secret, err
}

// makeRoot stores the root that there was, or a new one.
func (k *Keeper) makeRoot(ctx context.Context) (*corev1.Secret, error) {
	o := &k.options
	if k.last != nil {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: k.last.Namespace, Name: k.last.Name, Labels: k.last.Labels, Annotations: k.last.Annotations,
			},
			Type: k.last.Type, Data: k.last.Data,
		}
		if err := k.create(ctx, secret); err != nil {
			return nil, err
		}
		o.Log.Info("Put back the authority, whose secret was deleted. To replace it, annotate the secret", "secret", o.Namespace+"/"+AuthoritySecret,
			"annotation", RotateAnnotation)
		return secret, nil
	}
	root, err := NewAuthority(o.TrustDomain, o.Now)
	if err != nil {
		return nil, err
	}
	secret, err := root.secret(o.Namespace, AuthoritySecret, authorityRole)
	if err != nil {
		return nil, err
	}
	secret.Annotations = map[string]string{signsAnnotation: signsIntermediates}
	if err := k.create(ctx, secret); err != nil {
		return nil, err
	}
	o.Log.Info("Made an authority", "secret", o.Namespace+"/"+AuthoritySecret,
		"trustDomain", o.TrustDomain.Name(), "until", root.certificate.NotAfter)
	return secret, nil
}

// create fails with AlreadyExists when somebody was faster, and changes nothing then.
func (k *Keeper) create(ctx context.Context, secret *corev1.Secret) error {
	if err := k.options.Client.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return nil
}

// secret returns the Secret that holds an authority.
func (a *Authority) secret(namespace, name, role string) (*corev1.Secret, error) {
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels(role)},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey: encodeCertificates(a.certificate), corev1.TLSPrivateKeyKey: key, CAKey: a.BundlePEM(),
		},
	}, nil
}

// ensureIntermediate reads the intermediate below a root, or makes the next one.
func (k *Keeper) ensureIntermediate(ctx context.Context, root *Authority, rootSecret *corev1.Secret) (*Authority, error) {
	key := k.store().key(IntermediateSecret)
	live := &corev1.Secret{}
	err := k.options.Client.Get(ctx, key, live)
	missing := apierrors.IsNotFound(err)
	switch {
	case missing:
	case err != nil:
		return nil, fmt.Errorf("reading secret %s: %w", key, err)
	case live.Labels[RoleLabel] != intermediateRole:
		return nil, fmt.Errorf("secret %s is not Hansa's (it has no label %s=%s) and is left alone. Delete it, or give it another name",
			key, RoleLabel, intermediateRole)
	}
	present, reason := k.usable(root, live)
	if reason == "" {
		return present, k.delegate(ctx, rootSecret)
	}
	next, err := root.NewIntermediate()
	if err != nil {
		return nil, err
	}
	secret, err := next.secret(key.Namespace, key.Name, intermediateRole)
	if err != nil {
		return nil, err
	}
	delete(secret.Data, CAKey) // those of the root count
	if missing {
		err = k.create(ctx, secret)
	} else {
		changed := live.DeepCopy()
		changed.Data = secret.Data
		if err = k.options.Client.Update(ctx, changed); err != nil {
			err = fmt.Errorf("writing secret %s: %w", key, err)
		}
	}
	if err != nil {
		return nil, err
	}
	k.options.Log.Info("Made an intermediate authority", "secret", key.String(), "until", next.certificate.NotAfter, "reason", reason)
	return next, k.delegate(ctx, rootSecret)
}

// usable returns the intermediate in a Secret, or why there has to be another.
func (k *Keeper) usable(root *Authority, secret *corev1.Secret) (*Authority, string) {
	if len(secret.Data) == 0 {
		return nil, "there was none"
	}
	present, err := root.ParseIntermediate(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	switch {
	case err != nil:
		return nil, "it was not usable: " + err.Error()
	case !root.signed(present):
		return nil, "another root signs"
	case due(present.certificate, k.options.Now()):
		return nil, "a third of its life is gone"
	}
	return present, ""
}

// delegate notes on the root that it signs nothing itself any more, once there is an intermediate.
func (k *Keeper) delegate(ctx context.Context, root *corev1.Secret) error {
	if root.Labels[RoleLabel] != authorityRole || root.Annotations[signsAnnotation] == signsIntermediates {
		return nil
	}
	changed := root.DeepCopy()
	changed.Annotations = merged(changed.Annotations, map[string]string{signsAnnotation: signsIntermediates})
	err := k.options.Client.Update(ctx, changed)
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing secret %s/%s: %w", root.Namespace, root.Name, err)
	}
	return nil
}
