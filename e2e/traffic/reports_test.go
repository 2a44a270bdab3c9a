package traffic_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/script"
)

// report is a line of a load: an interval, or the summary.
type report struct {
	Type    string
	Start   time.Time
	OK      int64
	Failed  int64
	Answers map[string]int64
	Errors  map[string]int64
	Seen    map[string]struct{ First, Last time.Time }
}

// clusters are those that answered, sorted.
func (r report) clusters() []string {
	by := map[string]bool{}
	for who := range r.Answers {
		by[clusterOf(who)] = true
	}
	return slices.Sorted(maps.Keys(by))
}

// clusterOf is the first part of cluster/zone/pod.
func clusterOf(who string) string {
	cluster, _, _ := strings.Cut(who, "/")
	return cluster
}

// lastReport reads the last line of a load.
func lastReport(output string) (report, error) {
	var r report
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		return r, fmt.Errorf("the last line is no report: %w", err)
	}
	return r, nil
}

// mostLoadLog is as much as scripts read of the log of a load: some minutes.
const mostLoadLog = 1 << 20

// intervals are those that the load in a cluster has reported so far.
func intervals(ts *testscript.TestScript, cluster string) []report {
	var all []report
	for line := range strings.Lines(script.Tail(loadLog(ts, cluster), mostLoadLog)) {
		var r report
		if json.Unmarshal([]byte(line), &r) == nil && r.Type == "interval" { // the last line may still be being written
			all = append(all, r)
		}
	}
	return all
}
