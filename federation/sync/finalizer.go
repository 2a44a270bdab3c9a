package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/api"
)

func (r *Reconciler) addFinalizer(ctx context.Context, fed *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return r.patchFinalizers(ctx, fed, append(slices.Clone(fed.GetFinalizers()), api.SyncFinalizer))
}

func (r *Reconciler) removeFinalizer(ctx context.Context, fed *unstructured.Unstructured) error {
	rest := slices.DeleteFunc(slices.Clone(fed.GetFinalizers()), func(f string) bool { return f == api.SyncFinalizer })
	_, err := r.patchFinalizers(ctx, fed, rest)
	return err
}

// patchFinalizers replaces the list under the precondition that the object is still the one that was read.
func (r *Reconciler) patchFinalizers(ctx context.Context, fed *unstructured.Unstructured, finalizers []string) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers":      finalizers,
		"resourceVersion": fed.GetResourceVersion(),
		"uid":             fed.GetUID(),
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	answer, err := scoped(r.host.Client, r.kind.federated, fed.GetNamespace()).Patch(ctx, fed.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("patching the finalizers of %s %s/%s: %w", r.kind.fedKind.Kind, fed.GetNamespace(), fed.GetName(), err)
	}
	if answer.GetDeletionTimestamp() == nil {
		r.feds.Observe(answer)
	}
	return answer, nil
}
