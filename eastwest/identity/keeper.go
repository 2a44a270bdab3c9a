package identity

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// AdminLifetime is how long an admin's certificate is good for: who could read the Secret once should not look at
// everything for a month.
const AdminLifetime = 24 * time.Hour

// KeeperOptions say what a Keeper needs. TrustDomain, Wake, Now and Period have defaults.
type KeeperOptions struct {
	// Client may read from a cache.
	Client      client.Client
	Namespace   string // of the hub
	TrustDomain spiffeid.TrustDomain
	// External names the Secret of an external issuer, in the hub's namespace: ParseExternal says what has to be in it. Empty
	// means that the hub is its own authority.
	External string
	// ClusterID returns the id in the clusterset of a KubeFedCluster by its name, once it is known.
	ClusterID func(member string) (string, bool)
	// Revoked is asked about each certificate of a cluster, which is made anew then; nil means that nothing was revoked.
	Revoked RevokedFunc
	// Wake makes the Keeper look at once, after a cluster has joined for example. nil means never.
	Wake   <-chan struct{}
	Log    logr.Logger
	Now    func() time.Time
	Period time.Duration
}

// Keeper makes the authority when there is none and nobody else is to be it, replaces its intermediate and, when asked to,
// its root, and keeps Secrets with certificates: one for the clients of each KubeFedCluster, and one for admins. They are
// renewed when a third of their life is gone, when they were revoked, and when the authority or the id of the cluster has
// changed; they go with their KubeFedCluster. Secrets that it did not make are left alone. Only the
// leader runs it.
type Keeper struct {
	options KeeperOptions
	last    *corev1.Secret // the one of the root: it is put back when it was deleted
	told    map[string]string
}

// NewKeeper returns a Keeper.
func NewKeeper(o KeeperOptions) *Keeper {
	o.TrustDomain, o.Now, o.Period = defaults(o.TrustDomain, o.Now, o.Period)
	return &Keeper{options: o, told: map[string]string{}}
}

// NeedLeaderElection says that only the leader keeps Secrets.
func (k *Keeper) NeedLeaderElection() bool { return true }

// Start keeps the Secrets until ctx ends. What goes wrong is logged, and tried again.
func (k *Keeper) Start(ctx context.Context) error {
	every(ctx, k.options.Period, k.options.Wake, func() {
		problems := k.Keep(ctx)
		if ctx.Err() != nil {
			return
		}
		for subject := range k.told {
			if problems[subject] == nil {
				delete(k.told, subject)
			}
		}
		for subject, err := range problems {
			k.told[subject] = tell(k.options.Log, "Certificates of "+subject+" are not kept", err, k.told[subject])
		}
	})
	return nil
}

// Keep looks at everything once. It returns what went wrong by whom it is about: one cluster's trouble does not stop the
// others. It is not to be called beside Start.
func (k *Keeper) Keep(ctx context.Context) map[string]error {
	problems := map[string]error{}
	note := func(subject string, err error) {
		// Somebody else wrote meanwhile, or the cache is behind: the next look sees it.
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			problems[subject] = err
		}
	}
	authority, err := k.ensureIssuer(ctx, note)
	if err != nil {
		note("the authority", err)
		return problems
	}
	note("admins", k.keepSecret(ctx, authority, kept{
		name: AdminSecret, id: AdminID(k.options.TrustDomain), lifetime: AdminLifetime,
	}))
	clusters := &corev1b1.KubeFedClusterList{}
	if err := k.options.Client.List(ctx, clusters, client.InNamespace(k.options.Namespace)); err != nil {
		problems["clusters"] = fmt.Errorf("listing KubeFedClusters: %w", err)
		return problems
	}
	slices.SortFunc(clusters.Items, func(a, b corev1b1.KubeFedCluster) int { return cmp.Compare(a.Name, b.Name) })
	held := map[string]string{}
	for i := range clusters.Items {
		cluster := &clusters.Items[i]
		id, known := k.options.ClusterID(cluster.Name)
		if !known {
			continue
		}
		want := ClusterID(k.options.TrustDomain, id, RoleClient)
		if name, err := want.SPIFFE(); err == nil {
			held[name.String()] = cluster.Name
		}
		if cluster.DeletionTimestamp == nil {
			note("cluster "+cluster.Name, k.keepSecret(ctx, authority, kept{name: ClientSecret(cluster.Name), owner: cluster, id: want}))
		}
	}
	note("former clusters", k.forget(ctx, clusters.Items, held))
	return problems
}

// kept is a Secret as it should be.
type kept struct {
	name     string
	id       ID
	lifetime time.Duration
	owner    *corev1b1.KubeFedCluster // nil: nobody
}

// keepSecret creates or renews a Secret, if need be.
func (k *Keeper) keepSecret(ctx context.Context, authority *Authority, want kept) error {
	id, err := want.id.SPIFFE()
	if err != nil {
		return err
	}
	where := k.options.Namespace + "/" + want.name
	live := &corev1.Secret{}
	err = k.options.Client.Get(ctx, client.ObjectKey{Namespace: k.options.Namespace, Name: want.name}, live)
	missing := apierrors.IsNotFound(err)
	switch {
	case missing:
		live = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.options.Namespace, Name: want.name}, Type: corev1.SecretTypeTLS}
	case err != nil:
		return fmt.Errorf("reading secret %s: %w", where, err)
	case live.Labels[RoleLabel] != string(want.id.Role):
		return fmt.Errorf("secret %s is not Hansa's (it has no label %s=%s) and is left alone. Delete it, or give it another name",
			where, RoleLabel, want.id.Role)
	}
	reason := cmp.Or(stale(live, authority, id, k.options.Now()), k.revoked(live, want.id))
	if reason == "" && owned(live, want.owner) {
		return nil
	}
	changed := live.DeepCopy()
	changed.Labels = merged(changed.Labels, labels(string(want.id.Role)))
	own(changed, want.owner)
	if reason != "" {
		certPEM, keyPEM, err := authority.Issue(id, nil, nil, want.lifetime)
		if err != nil {
			return err
		}
		changed.Data = map[string][]byte{corev1.TLSCertKey: certPEM, corev1.TLSPrivateKeyKey: keyPEM, CAKey: authority.bundlePEM}
	}
	if missing {
		err = k.options.Client.Create(ctx, changed)
	} else {
		err = k.options.Client.Update(ctx, changed)
	}
	if err != nil {
		return fmt.Errorf("writing secret %s: %w", where, err)
	}
	k.options.Log.Info("Wrote a certificate", "secret", where, "id", id.String(), "reason", reason)
	return nil
}

// stale returns why the certificate in a Secret has to be made anew; empty when it is good.
func stale(secret *corev1.Secret, authority *Authority, id spiffeid.ID, now time.Time) string {
	if len(secret.Data) == 0 {
		return "it is new"
	}
	pair, err := x509svid.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	switch {
	case err != nil:
		return "it was damaged"
	case pair.ID != id:
		return "the identity was " + pair.ID.String()
	case !bytes.Equal(secret.Data[CAKey], authority.bundlePEM):
		return "the trusted roots have changed"
	case due(pair.Certificates[0], now):
		return "a third of its life is gone"
	}
	if _, _, err := x509svid.Verify(pair.Certificates, authority.bundle, x509svid.WithTime(now)); err != nil {
		return "the authority has changed"
	}
	return ""
}

// revoked returns why the certificate in a Secret, which is not stale, has to be made anew: it was revoked, and the next one will
// not be.
func (k *Keeper) revoked(secret *corev1.Secret, id ID) string {
	asked := k.options.Revoked
	if asked == nil || id.Cluster == "" || len(secret.Data) == 0 {
		return ""
	}
	pair, err := x509svid.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err == nil && asked(id.Cluster, Issued(pair.Certificates[0])) && !asked(id.Cluster, k.options.Now().Truncate(time.Second)) {
		return "it was revoked"
	}
	return ""
}

// owned tells whether a Secret goes with its owner.
func owned(secret *corev1.Secret, owner *corev1b1.KubeFedCluster) bool {
	return owner == nil || slices.ContainsFunc(secret.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == owner.UID })
}

// own makes a KubeFedCluster the owner of a Secret, in the place of one that had the same name before.
func own(secret *corev1.Secret, owner *corev1b1.KubeFedCluster) {
	if owner == nil || owned(secret, owner) {
		return
	}
	gone := func(r metav1.OwnerReference) bool { return r.Kind == kindOfMember && r.Name == owner.Name }
	secret.OwnerReferences = append(slices.DeleteFunc(secret.OwnerReferences, gone), metav1.OwnerReference{
		APIVersion: corev1b1.SchemeGroupVersion.String(), Kind: kindOfMember, Name: owner.Name, UID: owner.UID,
	})
}

const kindOfMember = "KubeFedCluster"

// forget deletes the Secrets of clusters that have left, where nobody collects what has lost its owner, and those whose
// certificate is for an id that another cluster has now: held has the clusters by SPIFFE ID. A cluster whose id is not known
// for the moment keeps what it has.
func (k *Keeper) forget(ctx context.Context, clusters []corev1b1.KubeFedCluster, held map[string]string) error {
	secrets := &corev1.SecretList{}
	err := k.options.Client.List(ctx, secrets, client.InNamespace(k.options.Namespace), client.MatchingLabels{RoleLabel: string(RoleClient)})
	if err != nil {
		return fmt.Errorf("listing secrets: %w", err)
	}
	var problems []error
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		name, ours := strings.CutPrefix(secret.Name, ClientSecretPrefix)
		member := slices.ContainsFunc(clusters, func(c corev1b1.KubeFedCluster) bool { return c.Name == name })
		if !ours || member && !ofAnother(secret, name, held) {
			continue
		}
		err := k.options.Client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})
		if client.IgnoreNotFound(err) != nil {
			problems = append(problems, fmt.Errorf("deleting secret %s/%s: %w", secret.Namespace, secret.Name, err))
			continue
		}
		k.options.Log.Info("Deleted the certificate of a cluster that has left, or has this id no more", "secret", secret.Namespace+"/"+secret.Name)
	}
	return errors.Join(problems...)
}

// ofAnother tells whether the certificate in a cluster's Secret is for an id that another cluster has.
func ofAnother(secret *corev1.Secret, cluster string, held map[string]string) bool {
	pair, err := x509svid.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return false
	}
	holder, found := held[pair.ID.String()]
	return found && holder != cluster
}

// merged returns a map with what is in extra on top.
func merged(base, extra map[string]string) map[string]string {
	all := maps.Clone(base)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, extra)
	return all
}
