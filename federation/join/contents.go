package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// namespaceTimeout bounds the wait for the deletion of the hub's namespace in a member.
const namespaceTimeout = 2 * time.Minute

// isHost tells whether the member is the host cluster itself: then the hub's namespace is one and the same object.
func (j *Joiner) isHost(ctx context.Context, name string) (bool, error) {
	var uids [2]string
	for i, side := range []*Cluster{j.host, j.member} {
		live := &corev1.Namespace{}
		err := side.client.Get(ctx, client.ObjectKey{Name: name}, live)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading namespace %s in %s: %w", name, side.Name, err)
		}
		uids[i] = string(live.UID)
	}
	return uids[0] != "" && uids[0] == uids[1], nil
}

// deleteNamespace deletes the hub's namespace in the member, unless somebody else keeps something in it.
func (j *Joiner) deleteNamespace(ctx context.Context, hub account) error {
	name := hub.Namespace
	live := &corev1.Namespace{}
	err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, live)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading namespace %s in %s: %w", name, j.member.Name, err)
	}
	others, err := j.contents(ctx, hub)
	if err != nil {
		return fmt.Errorf("looking for what else is in namespace %s of %s, which is therefore kept: %w", name, j.member.Name, err)
	}
	if len(others) > 0 {
		j.report("namespace/%s kept in %s: it holds %s", name, j.member.Name, others[0])
		return nil
	}
	return j.delete(ctx, j.member, live)
}

// contents lists what the hub's namespace holds besides what Kubernetes puts into each one and what the hub itself has
// there; the first of each kind is enough.
func (j *Joiner) contents(ctx context.Context, hub account) ([]string, error) {
	lists, err := Resources(ctx, j.member.Config, func(d discovery.DiscoveryInterface) ([]*metav1.APIResourceList, error) {
		return d.ServerPreferredNamespacedResources()
	})
	if err != nil {
		return nil, fmt.Errorf("listing the kinds of %s: %w", j.member.Name, err)
	}
	var found []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("group version %q: %w", list.GroupVersion, err)
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") || resource.Name == "events" || version.Group == "metrics.k8s.io" {
				continue
			}
			other, err := j.firstOther(ctx, version.WithKind(resource.Kind), hub)
			if err != nil {
				return nil, err
			}
			if other != "" {
				found = append(found, other)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// firstOther returns one object of a kind in the hub's namespace that neither Kubernetes nor Join put there.
func (j *Joiner) firstOther(ctx context.Context, kind schema.GroupVersionKind, hub account) (string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := j.member.client.List(ctx, list, client.InNamespace(hub.Namespace), client.Limit(20)); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("listing %s: %w", kind.Kind, err)
	}
	for _, item := range list.Items {
		own := hub.owns(kind.Kind, item.Name) || (kind.Kind == "ConfigMap" && item.Name == "kube-root-ca.crt") || (kind.Kind == "ServiceAccount" && item.Name == "default")
		if own || item.DeletionTimestamp != nil || item.Annotations[corev1.ServiceAccountNameKey] != "" {
			continue
		}
		return fmt.Sprintf("%s %s", kind.Kind, item.Name), nil
	}
	return "", nil
}

// deleteWorkloads deletes the objects with the managed label, namespaces last. In the host cluster itself namespaces
// stay: they hold the federated objects.
func (j *Joiner) deleteWorkloads(ctx context.Context, kinds []schema.GroupVersionKind, host bool) error {
	last := func(kind schema.GroupVersionKind) bool { return kind.Group == "" && kind.Kind == "Namespace" }
	ordered := slices.Clone(kinds)
	slices.SortStableFunc(ordered, func(a, b schema.GroupVersionKind) int {
		switch {
		case last(a) == last(b):
			return 0
		case last(a):
			return 1
		}
		return -1
	})
	var problems []error
	for _, kind := range ordered {
		if last(kind) && host {
			j.report("namespaces kept in %s: it is the host cluster", j.member.Name)
			continue
		}
		problems = append(problems, j.deleteLabelled(ctx, kind, client.MatchingLabels{api.ManagedLabel: api.Managed}))
	}
	return errors.Join(problems...)
}

// deleteLabelled deletes the objects of one kind that carry labels, each only if it is still the one that was listed.
func (j *Joiner) deleteLabelled(ctx context.Context, kind schema.GroupVersionKind, labels client.MatchingLabels) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	err := j.member.client.List(ctx, list, labels)
	if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing managed %s objects in %s: %w", kind.Kind, j.member.Name, err)
	}
	var problems []error
	for _, item := range list.Items {
		item.SetGroupVersionKind(kind)
		uid := item.UID
		err := j.member.client.Delete(ctx, &item, j.deletion(client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))...)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			problems = append(problems, fmt.Errorf("deleting %s in %s: %w", describe(j.member.client, &item), j.member.Name, err))
		default:
			j.did("deleted from", describe(j.member.client, &item), j.member)
		}
	}
	return errors.Join(problems...)
}

// awaitNamespaceGone waits while the hub's namespace in the member is being deleted, as it is right after an unjoin:
// nothing can be created in it.
func (j *Joiner) awaitNamespaceGone(ctx context.Context, name string) error {
	started, told := time.Now(), false
	err := wait.PollUntilContextTimeout(ctx, grantPoll, namespaceTimeout, true, func(ctx context.Context) (bool, error) {
		live := &corev1.Namespace{}
		err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, live)
		if apierrors.IsNotFound(err) || (err == nil && live.DeletionTimestamp == nil) {
			return true, nil
		}
		if err == nil && !told && time.Since(started) > quiet {
			told = true
			j.report("waiting until namespace %s, which is being deleted, is gone from %s", name, j.member.Name)
		}
		return false, err
	})
	switch {
	case wait.Interrupted(err):
		return fmt.Errorf("namespace %s in %s is still being deleted after %s. See what holds it up: kubectl --context=%s get namespace %s -o yaml; then repeat the join",
			name, j.member.Name, namespaceTimeout, j.member.Context, name)
	case err != nil:
		return fmt.Errorf("reading namespace %s in %s: %w\n%s", name, j.member.Name, err, Advice(err))
	}
	return nil
}
