package exports_test

import (
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// TestNumbers are multiples of the step, so that each of them is another one in a metric.
func TestNumbers(t *testing.T) {
	var last uint64
	for i, number := range exports.Numbers(5) {
		if number%clusterset.Step != 0 || number <= last || float64(number) == float64(last) {
			t.Errorf("snapshot %d has the number %d, after %d", i, number, last)
		}
		last = number
	}
}
