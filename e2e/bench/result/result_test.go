package result_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/bench/result"
)

func TestPercentile(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		values []float64
		p      float64
		want   float64
	}{
		"MedianOfOdd":  {"the middle one counts, in whatever order they come", []float64{9, 1, 5}, 50, 5},
		"MedianOfEven": {"without a middle one it is the mean of the two", []float64{4, 1, 2, 3}, 50, 2.5},
		"One":          {"a single value is every percentile", []float64{7}, 99, 7},
		"Between":      {"ranks between values are interpolated", []float64{0, 10}, 99, 9.9},
		"Lowest":       {"the 0th is the least", []float64{3, 2, 1}, 0, 1},
		"Highest":      {"the 100th is the greatest", []float64{3, 2, 1}, 100, 3},
		"Beyond":       {"what is beyond 100 is the greatest too", []float64{3, 2, 1}, 140, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := result.Percentile(test.values, test.p); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("%s: Percentile(%v, %v) = %v, want %v", test.reason, test.values, test.p, got, test.want)
			}
		})
	}
	if got := result.Percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("Percentile of nothing = %v, want NaN", got)
	}
}

func TestOf(t *testing.T) {
	for name, test := range map[string]struct {
		reason            string
		values, reference result.Runs
		want              *result.Figures
	}{
		"WithReference": {
			"value and reference are medians, and the ratio is of them",
			result.Runs{3, 1, 2.00004},
			result.Runs{1, 0.5, 4},
			&result.Figures{Value: 2, Unit: "s", Min: 1, Max: 3, Reference: new(1.0), Ratio: new(2.0), Runs: 3},
		},
		"Alone": {
			"without a reference there is no ratio",
			result.Runs{0.0123456},
			nil,
			&result.Figures{Value: 0.01235, Unit: "s", Min: 0.01235, Max: 0.01235, Runs: 1},
		},
		"NoReferenceTime": {
			"nothing is divided by zero",
			result.Runs{1},
			result.Runs{0},
			&result.Figures{Value: 1, Unit: "s", Min: 1, Max: 1, Reference: new(0.0), Runs: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, result.Of(test.values, test.reference, "s")); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
		})
	}
}

func TestMet(t *testing.T) {
	figures := &result.Figures{Value: 9, Ratio: new(2.5), Detail: map[string]float64{"p99_ms": 41}}
	for name, test := range map[string]struct {
		reason  string
		limits  []result.Limit
		figures *result.Figures
		want    bool
	}{
		"AtTheLimit":  {"a limit holds up to and including itself", []result.Limit{{Of: "ratio", Max: 2.5}}, figures, true},
		"All":         {"every limit has to hold", []result.Limit{{Of: "value", Max: 10}, {Of: "p99_ms", Max: 40}}, figures, false},
		"Unmeasured":  {"what was not measured is not met", []result.Limit{{Of: "writes", Max: 0}}, figures, false},
		"NoReference": {"a ratio without a reference is not met", []result.Limit{{Of: "ratio", Max: 9}}, &result.Figures{}, false},
		"NoLimits":    {"a target nobody can check is not met", nil, figures, false},
		"NotRun":      {"a row that was not run is not met", []result.Limit{{Of: "value", Max: 10}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (result.Target{Limits: test.limits}).Met(test.figures); got != test.want {
				t.Errorf("%s: Met = %t, want %t", test.reason, got, test.want)
			}
		})
	}
}

// targets of the tests: two rows that a part measures, and one that none does yet.
var targets = []result.Target{
	{ID: "first", Part: "some", Text: "≤ 2×", Limits: []result.Limit{{Of: "ratio", Max: 2}}},
	{ID: "second", Part: "some", Text: "≤ 5 s", Limits: []result.Limit{{Of: "value", Max: 5}}},
	{ID: "later", Text: "≤ 1 ms"},
}

func figures(value float64) *result.Figures {
	return result.Of(result.Runs{value}, result.Runs{1}, "s")
}

func encode(t *testing.T, rows ...result.Row) []byte {
	t.Helper()
	content, err := result.Encode(rows)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestMerge(t *testing.T) {
	const soon = "the part is not built yet"
	for name, test := range map[string]struct {
		reason   string
		old      []byte
		measured []result.Row
		want     []string // id, value or why it was skipped, verdict
	}{
		"Empty": {
			"every target has a row, also in a new file",
			nil, nil,
			[]string{"first: not run yet: make bench BENCH=some", "second: not run yet: make bench BENCH=some", "later: " + soon},
		},
		"KeepsOthers": {
			"rows that were not run now stay, in the order of the targets",
			encode(t, result.Row{ID: "second", Figures: figures(4)}, result.Row{ID: "first", Figures: figures(9)}),
			[]result.Row{{ID: "first", Figures: figures(1.5)}},
			[]string{"first: 1.5 met", "second: 4 met", "later: " + soon},
		},
		"JudgesAnew": {
			"a row of the file is judged by the target of today",
			encode(t, result.Row{ID: "second", Figures: &result.Figures{Value: 6, Met: true}}), nil,
			[]string{"first: not run yet: make bench BENCH=some", "second: 6 missed", "later: " + soon},
		},
		"DropsStrangers": {
			"a row that is no target any more goes",
			encode(t, result.Row{ID: "gone", Figures: figures(1)}, result.Row{ID: "later", Skipped: "of old"}), nil,
			[]string{"first: not run yet: make bench BENCH=some", "second: not run yet: make bench BENCH=some", "later: " + soon},
		},
		"KeepsReasons": {
			"why a row was skipped in this run is told",
			encode(t, result.Row{ID: "first", Figures: figures(1)}),
			[]result.Row{{ID: "first", Skipped: "too little memory"}},
			[]string{"first: too little memory", "second: not run yet: make bench BENCH=some", "later: " + soon},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := result.Merge(test.old, test.measured, targets)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, row := range rows {
				if row.Target != targets[i].Text {
					t.Errorf("target of %s = %q, want %q", row.ID, row.Target, targets[i].Text)
				}
				got = append(got, row.ID+": "+outcome(row))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.reason, diff)
			}
			again, err := result.Merge(encode(t, rows...), nil, targets)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rows, again); diff != "" {
				t.Errorf("merging nothing changed the file: -want +got:\n%s", diff)
			}
		})
	}
}

func outcome(row result.Row) string {
	if row.Figures == nil {
		return row.Skipped
	}
	value, _ := json.Marshal(row.Value)
	if row.Met {
		return string(value) + " met"
	}
	return string(value) + " missed"
}

func TestMergeRefusesGarbage(t *testing.T) {
	if _, err := result.Merge([]byte("rows: none"), nil, targets); err == nil {
		t.Error("a file that is no JSON was overwritten without a word")
	}
}

func TestTargets(t *testing.T) {
	seen := map[string]bool{}
	for _, target := range result.Targets() {
		switch {
		case seen[target.ID]:
			t.Errorf("target %s stands twice", target.ID)
		case target.Part != "" && len(target.Limits) == 0:
			t.Errorf("target %s is measured, but nothing says when it is met", target.ID)
		case target.Text == "":
			t.Errorf("target %s has no text", target.ID)
		}
		seen[target.ID] = true
	}
}

func TestWriteTable(t *testing.T) {
	rows, err := result.Merge(nil, []result.Row{
		{ID: "first", Figures: figures(2.5).With("p99_ms", 41.23)},
		{ID: "second", Skipped: "too little memory"},
	}, targets)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := result.WriteTable(&out, rows); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	want := []string{
		"ROW       VALUE                       MIN–MAX      REFERENCE  RATIO  TARGET",
		"first     2.500 s                     2.500–2.500  1 s        2.50×  ≤ 2×    MISSED",
		"  p99_ms  41.2",
		"second    skipped: too little memory                                 ≤ 5 s",
		"1 more rows belong to parts that are not built yet.",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
