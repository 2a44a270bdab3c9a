package traffic_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/script"
)

// verdictsCommand waits until `hansa explain service` says of every endpoint of echo what the script says: its priority,
// or why it is not used.
func verdictsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: verdicts FROM CLUSTER:PRIORITY|REASON,...")
	}
	program, full := spell(ts, "hansa", []string{"explain", "service", ts.Getenv("NS") + "/echo", "--from", args[0], "--port", "grpc", "--output", "json"})
	want := slices.Clone(args[1:])
	for i, text := range want {
		cluster, list, _ := strings.Cut(text, ":")
		want[i] = cluster + ":" + sorted(strings.Split(list, ","))
	}
	slices.Sort(want)
	for deadline := time.Now().Add(script.Patience); ; {
		err := ts.Exec(program, full...)
		if err == nil {
			var got []string
			if got, err = verdicts(ts.ReadFile("stdout")); err == nil && slices.Equal(got, want) {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: want %v (%v)", script.Patience, want, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// verdicts reads an explanation.
func verdicts(explanation string) ([]string, error) {
	var e struct {
		Endpoints []struct {
			Cluster, Reason string
			Priority        *int
		}
	}
	if err := json.Unmarshal([]byte(explanation), &e); err != nil {
		return nil, err
	}
	by := map[string][]string{}
	for _, endpoint := range e.Endpoints {
		verdict := cmp.Or(endpoint.Reason, "no-reason")
		if endpoint.Priority != nil {
			verdict = strconv.Itoa(*endpoint.Priority)
		}
		by[endpoint.Cluster] = append(by[endpoint.Cluster], verdict)
	}
	var all []string
	for _, cluster := range slices.Sorted(maps.Keys(by)) {
		all = append(all, cluster+":"+sorted(by[cluster]))
	}
	return all, nil
}

func sorted(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), ",") }
