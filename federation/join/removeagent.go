package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// agentTimeout bounds the wait until agents have ended: they drain, and are killed after a minute.
const agentTimeout = 90 * time.Second

// removeAgent removes what InstallAgent made, and waits until it is gone. Nodes keep their labels, since people may have set
// them.
func (j *Joiner) removeAgent(ctx context.Context, namespace string) error {
	objects, err := agentObjects(AgentOptions{Namespace: namespace, Name: "-", Image: "-"}, "")
	if err != nil {
		return err
	}
	var problems []error
	for _, object := range slices.Backward(objects) { // who is trusted last
		problems = append(problems, j.removeOf(ctx, object))
	}
	return errors.Join(problems...)
}

// removeOf removes one object, if Hansa made it.
func (j *Joiner) removeOf(ctx context.Context, object *unstructured.Unstructured) error {
	what := describe(j.member.client, object)
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(object.GroupVersionKind())
	err := j.member.client.Get(ctx, client.ObjectKeyFromObject(object), live)
	switch {
	case apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading %s in %s: %w", what, j.member.Name, err)
	case live.GetLabels()[ManagedByLabel] != ManagedBy:
		return nil
	}
	uid := live.GetUID()
	options := j.deletion(client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationForeground))
	if err := j.member.client.Delete(ctx, live, options...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s in %s: %w", what, j.member.Name, err)
	}
	j.did("deleted from", what, j.member)
	if j.dry {
		return nil
	}
	return j.awaitRemoved(ctx, live, what)
}

// awaitRemoved waits until an object is gone, with what belongs to it.
func (j *Joiner) awaitRemoved(ctx context.Context, object *unstructured.Unstructured, what string) error {
	started, told := time.Now(), false
	key, uid := client.ObjectKeyFromObject(object), object.GetUID()
	err := wait.PollUntilContextTimeout(ctx, grantPoll, agentTimeout, true, func(ctx context.Context) (bool, error) {
		err := j.member.client.Get(ctx, key, object)
		if apierrors.IsNotFound(err) || err == nil && object.GetUID() != uid {
			return true, nil
		}
		if err == nil && !told && time.Since(started) > quiet {
			told = true
			j.report("waiting until what belongs to %s has ended in %s", what, j.member.Name)
		}
		return false, err
	})
	if timedOut(ctx, err) {
		return fmt.Errorf("%s is being deleted in %s, but is not gone after %s", what, j.member.Name, agentTimeout)
	}
	return err
}
