package eds_test

import (
	"testing"

	"github.com/hansa-dev/hansa/e2e/bench/eds"
	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// TestFiguresAreComplete looks for the reference of every row, and for all figures that its target speaks of.
func TestFiguresAreComplete(t *testing.T) {
	found := eds.Figures()
	for _, target := range result.Targets() {
		f := found[target.ID]
		if f == nil {
			continue
		}
		delete(found, target.ID)
		if f.Reference == nil || f.Ratio == nil || *f.Ratio != 2 {
			t.Errorf("%s has the reference %v and the ratio %v, want a reference and 2", target.ID, f.Reference, f.Ratio)
		}
		for _, limit := range target.Limits {
			if _, measured := f.Detail[limit.Of]; !measured && limit.Of != "value" && limit.Of != "ratio" {
				t.Errorf("%s has no %s, which its target bounds", target.ID, limit.Of)
			}
		}
	}
	for id := range found {
		t.Errorf("%s is no target", id)
	}
}
