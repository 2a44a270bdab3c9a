package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// goneTimeout bounds the wait for the KubeFedCluster to go, which a finalizer may hold up.
const goneTimeout = 30 * time.Second

// UnjoinOptions of Unjoin.
type UnjoinOptions struct {
	// Name, HostName and Namespace as in Options. The Secret of a cluster that Hansa joined knows its ServiceAccount,
	// so HostName matters for clusters that KubeFed joined.
	Name, HostName, Namespace string
	// Force unjoins although the member cannot be reached, or something in it cannot be deleted.
	Force bool
	// DeleteWorkloads deletes what the hub propagated to the member: objects of Workloads with the managed label.
	// Otherwise they stay, label included, and go on running.
	DeleteWorkloads bool
	// Workloads are the target types to look through when DeleteWorkloads is set.
	Workloads []schema.GroupVersionKind
	// DryRun reports what would be done, after the same checks.
	DryRun bool
}

// ErrNotJoined marks the unjoin of a cluster of which nothing is left.
var ErrNotJoined = errors.New("is not joined")

// Unjoin removes the registration of a member: the KubeFedCluster first, so that the hub stops using it, then its
// Secret, its join tokens and its certificates, then in the member what Join created there. It may be repeated after an error. Nothing is deleted from a
// cluster that is not proven to be the registered one. With Force it goes on when the member does not answer or is not
// proven, and returns what it left behind there.
func (j *Joiner) Unjoin(ctx context.Context, o UnjoinOptions) (left []string, err error) {
	if err := CheckNames(o.Name, o.HostName); err != nil {
		return nil, err
	}
	if _, err := j.host.reach(ctx); err != nil {
		return nil, err
	}
	found, err := j.lookup(ctx, o)
	if err != nil {
		return nil, err
	}
	if found.certified, err = j.certificatesOf(ctx, o); err != nil {
		return nil, err
	}
	away := j.reachMember(ctx)
	if err := j.checkJoined(ctx, o, found, away == nil); err != nil {
		return nil, err
	}
	if away == nil {
		away = j.checkIdentity(ctx, o, found)
	}
	if away != nil {
		if err := mayForget(ctx, o, away); err != nil {
			return nil, err
		}
	}
	if o.DryRun {
		j = j.rehearsal()
	}
	if err := j.cutOff(ctx, o, found); err != nil {
		return nil, err
	}
	if away != nil {
		j.report("warning: %v", away)
		return leftBehind(found.hub), nil
	}
	err = j.clean(ctx, o, found.hub)
	switch {
	case err == nil:
		return nil, nil
	case !o.Force || ctx.Err() != nil:
		return nil, fmt.Errorf("%w\nThe cluster is no longer registered. Repeat the unjoin to finish, or remove what is left in it by hand", err)
	}
	j.report("warning: %v", err)
	return leftBehind(found.hub), nil
}

// cutOff ends what the host has of a member, and what the member may do among the others.
func (j *Joiner) cutOff(ctx context.Context, o UnjoinOptions, found *registered) error {
	if err := j.revokeCertificates(ctx, o, found.certified.id, false); err != nil {
		return err
	}
	if err := j.forget(ctx, o, found); err != nil {
		return err
	}
	if err := j.deleteTokens(ctx, o); err != nil {
		return err
	}
	return j.revokeCertificates(ctx, o, found.certified.id, true)
}

// mayForget refuses to unjoin a member that cannot be cleaned up, for the reason given, unless that is accepted.
func mayForget(ctx context.Context, o UnjoinOptions, reason error) error {
	switch {
	case ctx.Err() != nil:
		return reason
	case o.DeleteWorkloads:
		return fmt.Errorf("%w\nNothing was changed. Workloads are deleted only from a cluster that proves to be the right one, --force or not", reason)
	case o.Force:
		return nil
	case errors.Is(reason, ErrOtherCluster):
		return fmt.Errorf("%w\nNothing was changed. Name the right context with --cluster-context; or repeat with --force, which forgets the cluster and leaves the hub's ServiceAccount and roles in it", reason)
	}
	return fmt.Errorf("%w\nNothing was changed. To unjoin it all the same, and leave the hub's ServiceAccount and roles in it: repeat with --force", reason)
}

// checkJoined is an error when nothing of a join is left, in the host or in a member that can be asked.
func (j *Joiner) checkJoined(ctx context.Context, o UnjoinOptions, found *registered, reachable bool) error {
	if found.cluster != nil || len(found.secrets) > 0 || found.certified.begun {
		return nil
	}
	if !reachable {
		return notJoined(o, j.host)
	}
	gone, err := j.nothingLeft(ctx, found.hub)
	if err != nil {
		return err
	}
	if gone {
		return notJoined(o, j.host)
	}
	return nil
}

func notJoined(o UnjoinOptions, host *Cluster) error {
	return fmt.Errorf("cluster %q %w: there is no KubeFedCluster of that name in namespace %s of the host cluster (context %q). See: kubectl --context=%s -n %s get kubefedclusters",
		o.Name, ErrNotJoined, o.Namespace, host.Context, host.Context, o.Namespace)
}

// registered is what a hub knows of a member.
type registered struct {
	cluster *corev1b1.KubeFedCluster // nil: gone already
	secrets []string                 // names of Secrets with its credentials
	hub     account                  // in the member

	certified certified
}

// lookup finds what the host has of a member, also after an interrupted unjoin.
func (j *Joiner) lookup(ctx context.Context, o UnjoinOptions) (*registered, error) {
	found := &registered{hub: account{Namespace: o.Namespace, Name: ServiceAccountName(o.Name, o.HostName)}}
	cluster := &corev1b1.KubeFedCluster{}
	err := j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Name}, cluster)
	switch {
	case err == nil:
		found.cluster = cluster
	case apimeta.IsNoMatchError(err):
		return nil, notJoined(o, j.host)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading KubeFedCluster %s/%s in %s: %w", o.Namespace, o.Name, j.host.Name, err)
	}
	own, err := j.secretsOf(ctx, o.Namespace, o.Name)
	if err != nil {
		return nil, err
	}
	for _, secret := range own {
		found.secrets = append(found.secrets, secret.Name)
		found.hub = accountOf(&secret, found.hub)
	}
	if found.cluster == nil {
		return found, nil
	}
	return found, j.lookupReferred(ctx, o, found)
}

// lookupReferred adds the Secret that the registration refers to: KubeFed's carry none of our labels. A Secret that
// another member shares is not listed.
func (j *Joiner) lookupReferred(ctx context.Context, o UnjoinOptions, found *registered) error {
	name := found.cluster.Spec.SecretRef.Name
	secret := &corev1.Secret{}
	err := j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading secret/%s/%s in %s: %w", o.Namespace, name, j.host.Name, err)
	}
	found.hub = accountOf(secret, found.hub)
	all := &corev1b1.KubeFedClusterList{}
	if err := j.host.client.List(ctx, all, client.InNamespace(o.Namespace)); err != nil {
		return fmt.Errorf("listing KubeFedClusters in namespace %s of %s: %w", o.Namespace, j.host.Name, err)
	}
	switch {
	case sharedSecret(all.Items, o.Name, name):
		j.report("secret/%s/%s in %s is kept: another cluster uses it too", o.Namespace, name, j.host.Name)
	case !slices.Contains(found.secrets, name):
		found.secrets = append(found.secrets, name)
	}
	return nil
}

// accountOf reads the ServiceAccount from a Secret that Join wrote.
func accountOf(secret *corev1.Secret, otherwise account) account {
	namespace, name, ok := strings.Cut(secret.Annotations[api.TokenServiceAccountAnnotation], "/")
	if !ok {
		return otherwise
	}
	return account{Namespace: namespace, Name: name}
}

// reachMember tells why the member cannot be used; nil when it can.
func (j *Joiner) reachMember(ctx context.Context) error {
	if j.member == nil {
		return errors.New("the kubeconfig has no usable context for the cluster; name one with --cluster-context")
	}
	_, err := j.member.reach(ctx)
	return err
}

// nothingLeft tells whether the member has no ServiceAccount of the hub any more.
func (j *Joiner) nothingLeft(ctx context.Context, hub account) (bool, error) {
	err := j.member.client.Get(ctx, client.ObjectKey{Namespace: hub.Namespace, Name: hub.Name}, &corev1.ServiceAccount{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading serviceaccount/%s/%s in %s: %w", hub.Namespace, hub.Name, j.member.Name, err)
	}
	return false, nil
}

// forget removes the member from the host: the KubeFedCluster, and when it is gone its credentials.
func (j *Joiner) forget(ctx context.Context, o UnjoinOptions, found *registered) error {
	if found.cluster != nil {
		if err := j.deleteRegistration(ctx, o, found.cluster); err != nil {
			return err
		}
	}
	for _, name := range found.secrets {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: name}}
		if err := j.delete(ctx, j.host, secret); err != nil {
			return err
		}
	}
	return nil
}

func (j *Joiner) deleteRegistration(ctx context.Context, o UnjoinOptions, live *corev1b1.KubeFedCluster) error {
	what := describe(j.host.client, live)
	uid := live.UID
	if err := j.host.client.Delete(ctx, live, j.deletion(client.Preconditions{UID: &uid})...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s in %s: %w", what, j.host.Name, err)
	}
	if j.dry {
		j.did("deleted from", what, j.host)
		return nil
	}
	started, told := time.Now(), false
	key := client.ObjectKeyFromObject(live)
	err := wait.PollUntilContextTimeout(ctx, grantPoll, goneTimeout, true, func(ctx context.Context) (bool, error) {
		now := &corev1b1.KubeFedCluster{}
		err := j.host.client.Get(ctx, key, now)
		if apierrors.IsNotFound(err) || (err == nil && now.UID != uid) {
			return true, nil
		}
		if err == nil && !told && time.Since(started) > quiet {
			told = true
			j.report("waiting for the finalizers %v of %s in %s", now.Finalizers, what, j.host.Name)
		}
		return false, err
	})
	switch {
	case timedOut(ctx, err) && o.Force:
		j.report("warning: %s is being deleted but its finalizers are not done; going on because of --force", what)
	case timedOut(ctx, err):
		return fmt.Errorf("%s is being deleted in %s, but its finalizers are not done after %s. Check that the hub runs; repeat with --force to go on without it",
			what, j.host.Name, goneTimeout)
	case err != nil:
		return fmt.Errorf("waiting for the deletion of %s in %s: %w", what, j.host.Name, err)
	default:
		j.report("%s deleted from %s", what, j.host.Name)
	}
	return nil
}

// clean removes from the member what Join created there, and the propagated objects when that was asked for. The
// ServiceAccount is among the last: while it is there, a repeated unjoin knows that it is not done.
func (j *Joiner) clean(ctx context.Context, o UnjoinOptions, hub account) error {
	host, err := j.isHost(ctx, hub.Namespace)
	if err != nil {
		return err
	}
	var problems []error
	if o.DeleteWorkloads {
		problems = append(problems, j.deleteWorkloads(ctx, o.Workloads, host))
	}
	problems = append(problems, j.removeAgent(ctx, hub.Namespace))
	for _, object := range personalGrants(hub) {
		problems = append(problems, j.delete(ctx, j.member, object))
	}
	// Without its grants the hub, which may not have heard yet, cannot make them anew.
	problems = append(problems, j.withdrawServices(ctx, hub), j.deleteSharedRoles(ctx, hub))
	j.tellKeptDefinitions(ctx)
	if err := errors.Join(problems...); err != nil && !o.Force {
		return err
	}
	identity := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: hub.Namespace, Name: hub.Name}}
	problems = append(problems, j.delete(ctx, j.member, identity))
	if !host {
		problems = append(problems, j.deleteNamespace(ctx, hub))
	}
	return errors.Join(problems...)
}

// delete removes one object; one that is not there is no error and no message.
func (j *Joiner) delete(ctx context.Context, in *Cluster, object client.Object) error {
	what := describe(in.client, object)
	err := in.client.Delete(ctx, object, j.deletion()...)
	switch {
	case apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err): // a kind that the cluster does not have
	case err != nil:
		return fmt.Errorf("deleting %s in %s: %w", what, in.Name, err)
	default:
		j.did("deleted from", what, in)
	}
	return nil
}

// leftBehind lists what stays in a member that does not answer, or is not proven to be the one.
func leftBehind(hub account) []string {
	left := []string{fmt.Sprintf("namespace/%s, if it is empty", hub.Namespace)}
	left = append(left,
		fmt.Sprintf("serviceaccount/%s/%s", hub.Namespace, hub.Name),
		fmt.Sprintf("clusterroles %s, %s, %s", api.MemberRole, HubRole, DefaultTypesRole),
		"serviceimports with the label "+ManagedByLabel+"="+api.Controller+", with their services and endpointslices, and the conditions of serviceexports",
		"daemonset, serviceaccount/"+hub.Namespace+"/"+AgentName+" and what belongs to it, clusterrole and clusterrolebinding/"+AgentName,
		"clusterrole "+ServicesRole+", and the customresourcedefinitions of its serviceexports and serviceimports",
		fmt.Sprintf("clusterrolebinding/%s, or clusterrole and clusterrolebinding/%s", memberBindingName(hub.Namespace, hub.Name), adminRoleName(hub.Name)),
		"validatingadmissionpolicy and validatingadmissionpolicybinding/"+guardName(hub.Namespace, hub.Name),
		fmt.Sprintf("role and rolebinding/%s/%s", hub.Namespace, tokenRoleName(hub.Name)),
	)
	return left
}
