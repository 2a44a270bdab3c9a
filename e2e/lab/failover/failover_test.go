package failover_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hansa-dev/hansa/e2e/lab/failover"
)

func TestJudge(t *testing.T) {
	well := func(at, ms float64) failover.Call { return failover.Call{At: at, MS: ms, Who: "m1/z/web-1"} }
	broken := func(at float64) failover.Call { return failover.Call{At: at, MS: 3000, Error: "timeout"} }
	for name, test := range map[string]struct {
		reason string
		calls  []failover.Call
		want   failover.Outcome
	}{
		"Nothing": {"nobody called", nil, failover.Outcome{}},
		"Well": {
			"who answered is told by cluster",
			[]failover.Call{well(0, 1), {At: 0.02, MS: 41, Who: "m2/z/web-1"}},
			failover.Outcome{Sent: 2, WorstMS: 41, Answers: map[string]int{"m1": 1, "m2": 1}},
		},
		"CutOff": {
			"what was under way when something broke is counted apart",
			[]failover.Call{broken(0.98), well(1, 2), well(1.02, 160), well(1.04, 2)},
			failover.Outcome{Sent: 4, CutOff: 1, WorstMS: 160, SlowMS: 60, Answers: map[string]int{"m1": 3}, Errors: map[string]int{"timeout": 1}},
		},
		"Failed": {
			"calls begun after it fail for good; the order in which they ended does not matter",
			[]failover.Call{well(1.02, 2), broken(1), well(0.98, 2)},
			failover.Outcome{Sent: 3, Failed: 1, WorstMS: 2, SlowMS: 20, Answers: map[string]int{"m1": 2}, Errors: map[string]int{"timeout": 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.StruckS = 1
			got := failover.Judge(test.calls, 1)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty(), cmpopts.EquateApprox(0, 0.001), cmpopts.IgnoreFields(failover.Outcome{}, "Calls")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.reason, diff)
			}
		})
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	outcome := failover.Judge([]failover.Call{{ID: "x-1", At: 0, MS: 4, Who: "m1/z/p"}, {ID: "x-2", At: 2.5, MS: 9, Error: "reset"}}, 2)
	outcome.Fault, outcome.Means = "link there", "a link is cut"
	if err := failover.Save(dir, "table.md", []failover.Outcome{outcome}); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "table.md"))
	if want := "| link there | a link is cut | 2 | 1 | 0 | 0 | 4 ms | 0.0 s | m1 1 |"; err != nil || !strings.Contains(string(table), want) {
		t.Errorf("the table is %v\n%s\nwant a line\n%s", err, table, want)
	}
	lines, err := os.ReadFile(filepath.Join(dir, "link-there.jsonl"))
	if err != nil || strings.Count(string(lines), "\n") != 3 || !strings.Contains(string(lines), `{"id":"x-2","at":2.5,"ms":9,"error":"reset"}`) {
		t.Errorf("the calls are %v\n%s", err, lines)
	}
	var shown bytes.Buffer
	if err := failover.Table(&shown, []failover.Outcome{outcome}); err != nil || !strings.Contains(shown.String(), "link there") {
		t.Errorf("%v: %s", err, shown.String())
	}
}

func TestFaultsAreToldApart(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range failover.Faults() {
		if f.Name == "" || f.Means == "" || f.Strike == nil || f.Lasts <= 0 || seen[f.Name] {
			t.Errorf("fault %q lacks something, or is there twice", f.Name)
		}
		seen[f.Name] = true
	}
	if len(failover.Tale()) != 3 {
		t.Errorf("the tale has %d faults", len(failover.Tale()))
	}
}
