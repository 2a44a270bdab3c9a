package imports

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The resources that are written.
var (
	ImportResource  = importResource
	ExportResource  = exportResource
	ServiceResource = serviceResource
	SliceResource   = sliceResource
)

// Connect makes a Reconciler reach members in the way given: with a client, a revision of it, and whether they are ready.
func (r *Reconciler) Connect(reach func(member string) (client dynamic.Interface, revision string, ready bool)) {
	r.connect = func(m *cluster.Member) peer {
		client, revision, ready := reach(m.Name)
		return peer{name: m.Name, revision: revision, ready: ready, client: client, serves: func(context.Context, schema.GroupVersionResource) (bool, error) { return true, nil }}
	}
}

// For the test of what lanes keep of EndpointSlices.
var (
	Shrink    = shrink
	MendSlice = mendSlice
)

// ContentOf is the hash of an object, and of the Slice that it was made of.
func ContentOf(slice *Slice) (ofObject, ofSlice string, err error) {
	w := &Wanted{Properties: &clusterset.Properties{}}
	made, err := w.newSlice(slice, &unstructured.Unstructured{Object: map[string]any{}})
	if err != nil {
		return "", "", err
	}
	ofObject, err = contentOf(made)
	return ofObject, slice.content(), err
}
