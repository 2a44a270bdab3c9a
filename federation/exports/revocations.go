package exports

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// SetRevocations takes all revocations that there are.
func (w *Watcher) SetRevocations(revocations []clusterset.Revocation) {
	w.inbox.push(change{apply: func(t *table) { t.builder.SetRevocations(revocations) }})
}

// readRevocations tells the Watcher all Revocations of the hub's namespace, whichever is asked about: they are few.
func (c *Controllers) readRevocations(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var list v1alpha1.RevocationList
	if err := c.Client.List(ctx, &list, client.InNamespace(c.Namespace)); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing Revocations: %w", err)
	}
	revocations := make([]clusterset.Revocation, 0, len(list.Items))
	for i := range list.Items {
		revocations = append(revocations, clusterset.Revocation{Cluster: list.Items[i].Name, Before: list.Items[i].Spec.Before.Time})
	}
	c.Watcher.SetRevocations(revocations)
	return reconcile.Result{}, nil
}
