package cluster

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Store is the side of a watch that its reflector writes to.
func (w *Watch) Store() cache.ReflectorStore { return reflected{w} }

// Fail reports an error of the list, as Run does.
func (w *Watch) Fail(ctx context.Context, err error) { w.fail(ctx, err) }

// Locate exposes how nodes become region and zones.
func Locate(nodes []metav1.PartialObjectMetadata) (region string, zones []string) {
	return locate(nodes)
}
