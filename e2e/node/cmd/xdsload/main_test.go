package main

import (
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/hansa-dev/hansa/e2e/node/workload/load"
)

// TestSpeaksXDS is what sets the program apart from workload.
func TestSpeaksXDS(t *testing.T) {
	if resolver.Get(load.XDS) == nil {
		t.Errorf("no resolver is registered for %s:// targets", load.XDS)
	}
}
