package imports

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// execute makes one write, and takes in the answer at once.
func (l *lane) execute(ctx context.Context, p peer, key clusterset.Key, step Step, stand *footing) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	objects := p.client.Resource(step.Resource).Namespace(step.Object.GetNamespace())
	var answer *unstructured.Unstructured
	var err error
	switch step.Verb {
	case Create:
		answer, err = objects.Create(ctx, step.Object, metav1.CreateOptions{})
	case Update:
		answer, err = objects.Update(ctx, step.Object, metav1.UpdateOptions{})
	case UpdateStatus:
		answer, err = objects.UpdateStatus(ctx, step.Object, metav1.UpdateOptions{})
	case Delete:
		uid := step.Object.GetUID()
		err = objects.Delete(ctx, step.Object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil // it is gone, and its watch is about to say so
		}
	}
	if err != nil {
		return fmt.Errorf("cluster %q: %s of %s %s/%s: %w%s", l.name, step.Verb, step.Resource.Resource, step.Object.GetNamespace(), step.Object.GetName(), err, advice(err, l.name))
	}
	if step.Resource == sliceResource && hinted(step.Object) && !hinted(answer) {
		l.hintless.Store(true)
	}
	writes.WithLabelValues(l.name, step.Resource.Resource, string(step.Verb)).Inc()
	l.observe(key, step, answer)
	stand.replace(step, answer)
	return nil
}

// observe takes in the answer to a write, so that the next plan knows of it.
func (l *lane) observe(key clusterset.Key, step Step, answer *unstructured.Unstructured) {
	if answer == nil {
		return
	}
	name := types.NamespacedName{Namespace: answer.GetNamespace(), Name: answer.GetName()}
	switch step.Resource {
	case importResource:
		l.imports.Observe(answer)
	case exportResource:
		l.exports.Observe(answer)
	case serviceResource:
		l.services.Observe(answer)
		l.serviceIndex.set(name, key)
	case sliceResource:
		l.slices.Observe(answer)
		l.sliceIndex.set(name, key)
	}
}

// advice is the next step after a write failed in a way that somebody has to mend.
func advice(err error, member string) string {
	if apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return fmt.Sprintf(". Grant it by joining the cluster again: hansa join %s --error-on-existing=false", member)
	}
	return ""
}
