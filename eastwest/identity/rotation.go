package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A root is replaced in three steps, so that at no time somebody shows what another one does not trust yet or any more:
//
//	            signs   trusted     for
//	at rest     old     old         until RotateAnnotation, or a fifth of the old root's life is left
//	introduced  old     old, new    Overlap: every certificate given before was given without the new root, and has ended
//	changed     new     new, old    Overlap: every certificate below the old root has ended
//	at rest     new     new
//
// Whoever gets a certificate gets the roots with it; that is why the life of one certificate is time enough.

// Overlap is how long each step of a rotation takes: as long as a certificate is good, and a day.
const Overlap = Lifetime + 24*time.Hour

const (
	// RotateAnnotation on AuthoritySecret, with any value, asks the Keeper to replace the root. It takes it away when it
	// begins.
	RotateAnnotation = "hansa.dev/rotate"

	// introducedAnnotation says since when the next root is trusted, changedAnnotation since when it signs (RFC 3339).
	introducedAnnotation = "hansa.dev/next-root-trusted-since"
	changedAnnotation    = "hansa.dev/root-signs-since"

	// Keys of AuthoritySecret during a rotation.
	nextCertKey = "next.crt"
	nextKeyKey  = "next.key"
	formerKey   = "former.crt"
)

// rotate returns the Secret of the root after the step of a rotation that is due, and what the step did; nil when none is.
func (s store) rotate(secret *corev1.Secret, root *Authority) (*corev1.Secret, string, error) {
	now := s.now()
	switch {
	case len(secret.Data[nextCertKey]) > 0:
		since, err := instant(secret, introducedAnnotation)
		if err != nil || now.Before(since.Add(Overlap)) {
			return nil, "", err
		}
		changed, err := s.change(secret, root)
		return changed, "the next root signs from now on; the former one is trusted for as long as what it signed is good", err
	case len(secret.Data[formerKey]) > 0:
		since, err := instant(secret, changedAnnotation)
		if err != nil || now.Before(since.Add(Overlap)) {
			return nil, "", err
		}
		changed, err := forgetFormer(secret)
		return changed, "the former root is not trusted any more", err
	case secret.Annotations[RotateAnnotation] != "", old(root.certificate, now):
		changed, err := s.introduce(secret, root)
		return changed, "a next root is trusted besides, and will sign when everybody trusts it", err
	}
	return nil, "", nil
}

// old tells whether less than a fifth of a root's life is left.
func old(root *x509.Certificate, now time.Time) bool {
	return now.After(root.NotAfter.Add(-root.NotAfter.Sub(root.NotBefore) / 5))
}

func instant(secret *corev1.Secret, annotation string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, secret.Annotations[annotation])
	if err != nil {
		return time.Time{}, fmt.Errorf("the rotation of the root stands still: annotation %s has to be a time: %w. Put in when that step was made", annotation, err)
	}
	return at, nil
}

// introduce makes the next root, which is trusted and does not sign.
func (s store) introduce(secret *corev1.Secret, root *Authority) (*corev1.Secret, error) {
	next, err := NewAuthority(s.trustDomain, s.now)
	if err != nil {
		return nil, err
	}
	key, err := encodeKey(next.key)
	if err != nil {
		return nil, err
	}
	changed := secret.DeepCopy()
	delete(changed.Annotations, RotateAnnotation)
	changed.Annotations = merged(changed.Annotations, map[string]string{introducedAnnotation: s.now().UTC().Format(time.RFC3339)})
	changed.Data[nextCertKey], changed.Data[nextKeyKey] = encodeCertificates(next.certificate), key
	changed.Data[CAKey] = encodeCertificates(unite(root.bundle.X509Authorities(), []*x509.Certificate{next.certificate})...)
	return changed, nil
}

// change lets the next root sign.
func (s store) change(secret *corev1.Secret, root *Authority) (*corev1.Secret, error) {
	next, err := ParseAuthority(s.trustDomain, secret.Data[nextCertKey], secret.Data[nextKeyKey], secret.Data[CAKey], s.now)
	if err != nil {
		return nil, fmt.Errorf("the next root (%s, %s): %w", nextCertKey, nextKeyKey, err)
	}
	if !slices.ContainsFunc(root.bundle.X509Authorities(), next.certificate.Equal) {
		return nil, fmt.Errorf("the next root is not among the trusted ones in %s: nobody would accept what it signs. Remove %s, and ask for a rotation again", CAKey, nextCertKey)
	}
	changed := secret.DeepCopy()
	changed.Data[corev1.TLSCertKey], changed.Data[corev1.TLSPrivateKeyKey] = changed.Data[nextCertKey], changed.Data[nextKeyKey]
	changed.Data[formerKey], changed.Data[CAKey] = encodeCertificates(root.certificate), next.BundlePEM()
	delete(changed.Data, nextCertKey)
	delete(changed.Data, nextKeyKey)
	delete(changed.Annotations, introducedAnnotation)
	changed.Annotations = merged(changed.Annotations, map[string]string{changedAnnotation: s.now().UTC().Format(time.RFC3339)})
	return changed, nil
}

// forgetFormer ends the trust in the root that was replaced.
func forgetFormer(secret *corev1.Secret) (*corev1.Secret, error) {
	former, err := parseCertificates(secret.Data[formerKey])
	if err != nil {
		return nil, fmt.Errorf("the former root (%s): %w", formerKey, err)
	}
	trusted, err := parseCertificates(secret.Data[CAKey])
	if err != nil {
		return nil, fmt.Errorf("the trusted roots (%s): %w", CAKey, err)
	}
	trusted = slices.DeleteFunc(trusted, func(c *x509.Certificate) bool { return slices.ContainsFunc(former, c.Equal) })
	if len(trusted) == 0 {
		return nil, errors.New("nobody would be trusted without the former root: put the present one into " + CAKey)
	}
	changed := secret.DeepCopy()
	changed.Data[CAKey] = encodeCertificates(trusted...)
	delete(changed.Data, formerKey)
	delete(changed.Annotations, changedAnnotation)
	return changed, nil
}

// rotateRoot makes the step of a rotation that is due, and returns the root as it is then.
func (k *Keeper) rotateRoot(ctx context.Context, root *Authority, secret *corev1.Secret) (*Authority, *corev1.Secret, error) {
	if secret.Labels[RoleLabel] != authorityRole {
		if secret.Annotations[RotateAnnotation] != "" {
			return nil, nil, fmt.Errorf("secret %s/%s is not Hansa's (it has no label %s=%s), so its root is not replaced: whoever brought it has to",
				secret.Namespace, secret.Name, RoleLabel, authorityRole)
		}
		return root, secret, nil
	}
	changed, what, err := k.store().rotate(secret, root)
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	if changed == nil {
		return root, secret, nil
	}
	if err := k.options.Client.Update(ctx, changed); err != nil {
		return nil, nil, fmt.Errorf("writing secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	k.options.Log.Info("Made a step of replacing the root", "secret", secret.Namespace+"/"+secret.Name, "step", what)
	root, err = k.store().parseRoot(changed)
	return root, changed, err
}
