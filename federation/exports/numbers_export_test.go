package exports

import (
	"strconv"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Numbers are those of snapshots that are published one after the other.
func Numbers(n int) []uint64 {
	t := newTable(logr.Discard(), time.Now)
	numbers := make([]uint64, n)
	for i := range numbers {
		t.builder.SetCluster(clusterset.Cluster{ID: "c" + strconv.Itoa(i)})
		numbers[i] = t.publish().Sequence()
	}
	return numbers
}
