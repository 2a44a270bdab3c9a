package hub

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// EndDrills ends the drills in a namespace that are over, once.
func EndDrills(ctx context.Context, c client.Client, namespace string, now time.Time, log logr.Logger) error {
	return (&drills{client: c, namespace: namespace, log: log}).end(ctx, now)
}
