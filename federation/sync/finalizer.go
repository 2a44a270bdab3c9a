package sync

import (
	"context"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/api"
)

func (r *Reconciler) addFinalizer(ctx context.Context, fed *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return r.setFinalizers(ctx, fed, append(slices.Clone(fed.GetFinalizers()), api.SyncFinalizer))
}

func (r *Reconciler) removeFinalizer(ctx context.Context, fed *unstructured.Unstructured) error {
	rest := slices.DeleteFunc(slices.Clone(fed.GetFinalizers()), func(f string) bool { return f == api.SyncFinalizer })
	_, err := r.setFinalizers(ctx, fed, rest)
	return err
}

// setFinalizers replaces the list, provided that the object is still the one that was read. It sends the whole object: an
// API server spends a third less on that than on a patch of a custom resource.
func (r *Reconciler) setFinalizers(ctx context.Context, fed *unstructured.Unstructured, finalizers []string) (*unstructured.Unstructured, error) {
	next := &unstructured.Unstructured{Object: replaced(fed.Object, "metadata", func(metadata map[string]any) {
		list := make([]any, 0, len(finalizers))
		for _, f := range finalizers {
			list = append(list, f)
		}
		metadata["finalizers"] = list
	})}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	answer, err := scoped(r.host.Client, r.kind.federated, fed.GetNamespace()).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("writing the finalizers of %s %s/%s: %w", r.kind.fedKind.Kind, fed.GetNamespace(), fed.GetName(), err)
	}
	if answer.GetDeletionTimestamp() == nil {
		r.feds.Observe(answer)
	}
	return answer, nil
}

// replaced returns an object with one of its maps changed. Everything else is shared, so the result is for reading only.
func replaced(object map[string]any, field string, change func(map[string]any)) map[string]any {
	result := maps.Clone(object)
	inner, _ := object[field].(map[string]any)
	inner = maps.Clone(inner)
	change(inner)
	result[field] = inner
	return result
}
