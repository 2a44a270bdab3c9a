package controlplane

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
)

// Plane is the control plane without its process.
type Plane struct{ plane *plane }

// NewPlane makes one that ends with the test.
func NewPlane(t *testing.T) Plane {
	t.Helper()
	p := newPlane()
	t.Cleanup(p.close)
	return Plane{p}
}

// Serve is serve.
func (p Plane) Serve(ctx context.Context, groups []clients.Group, dir string, patience time.Duration) ([]clients.Group, error) {
	return p.plane.serve(ctx, serve{groups, dir}, patience)
}

// Changed is changed.
func (p Plane) Changed(c Change) { p.plane.changed(c) }

// Compared returns the changes that compare finds.
func Compared(before, after any) []Change {
	p := newPlane()
	p.serving = true
	p.compare(before, after)
	return slices.Clone(p.changes)
}
