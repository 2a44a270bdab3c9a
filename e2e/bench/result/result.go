// Package result holds what a benchmark found: rows with a value, its reference and its target, the file they are
// kept in, and the table that shows them. It decides only; reading and writing the file is the caller's.
package result

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Row is the outcome of one line of work, or says why there is none.
type Row struct {
	ID      string `json:"id"`
	Skipped string `json:"skipped,omitempty"` // why the row was not run; Figures is nil then
	*Figures

	Target string `json:"target"`
}

// Figures are what was measured for a row. Value, Reference, Min and Max have the same unit; Ratio is Value divided by
// Reference.
type Figures struct {
	Value     float64  `json:"value"` // median of the runs
	Unit      string   `json:"unit"`
	Min       float64  `json:"min"` // of the runs
	Max       float64  `json:"max"`
	Reference *float64 `json:"reference,omitempty"` // median of the reference in the same runs; nil when there is none
	Ratio     *float64 `json:"ratio,omitempty"`
	Met       bool     `json:"met"` // whether all limits of the target hold
	Runs      int      `json:"runs"`
	Load      Load     `json:"load"`

	// Detail holds further figures by name; the name ends in the unit, like p99_ms.
	Detail map[string]float64 `json:"detail,omitempty"`
	Note   string             `json:"note,omitempty"` // what a reader must know to read the value
	Time   string             `json:"time"`           // when it was measured, RFC 3339
}

// Load says how quiet the machine was.
type Load struct {
	Average float64 `json:"average"` // 1-minute load average before the benchmark began
	Busy    float64 `json:"busy"`    // cores that were busy while the benchmark waited between runs, median
	Cores   int     `json:"cores"`
}

// Limit is one bound of a target.
type Limit struct {
	Of  string  // "value", "ratio", or the name of a detail
	Max float64 // the bound holds up to and including this
}

// Target is a row that a benchmark has to show.
type Target struct {
	ID     string
	Part   string // of the benchmark; "" while no part measures it
	Text   string // the target in words
	Limits []Limit
}

// Met reports whether all limits of the target hold. A limit of something that was not measured does not.
func (t Target) Met(f *Figures) bool {
	if f == nil || len(t.Limits) == 0 {
		return false
	}
	for _, limit := range t.Limits {
		value, measured := f.figure(limit.Of)
		if !measured || value > limit.Max {
			return false
		}
	}
	return true
}

func (f *Figures) figure(name string) (float64, bool) {
	switch name {
	case "value":
		return f.Value, true
	case "ratio":
		if f.Ratio == nil {
			return 0, false
		}
		return *f.Ratio, true
	default:
		value, ok := f.Detail[name]
		return value, ok
	}
}

// Runs collects one number per run.
type Runs []float64

// Median returns the middle value, or the mean of the two in the middle; NaN without values.
func (r Runs) Median() float64 { return Percentile(r, 50) }

// Percentile returns the p-th percentile (0 to 100) by linear interpolation between the closest ranks; NaN without
// values. It does not change the values.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := min(max(p, 0), 100) / 100 * float64(len(sorted)-1)
	below := int(math.Floor(rank))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (rank-float64(below))*(sorted[above]-sorted[below])
}

// Of returns the figures of a series: the median with its extremes, beside the median of the reference. An empty
// reference means that there is none.
func Of(values, reference Runs, unit string) *Figures {
	f := &Figures{Value: round(values.Median()), Unit: unit, Min: round(slices.Min(values)), Max: round(slices.Max(values)), Runs: len(values)}
	if len(reference) > 0 {
		f.Reference = new(round(reference.Median()))
		if median := reference.Median(); median > 0 {
			f.Ratio = new(round(values.Median() / median))
		}
	}
	return f
}

// With adds a detail, rounded as all figures are, and returns f.
func (f *Figures) With(name string, value float64) *Figures {
	if f.Detail == nil {
		f.Detail = map[string]float64{}
	}
	f.Detail[name] = round(value)
	return f
}

// round keeps four significant digits: more would be noise, and would change with every run.
func round(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// file is the form of results.json.
type file struct {
	Rows []Row `json:"rows"`
}

// Merge returns the rows of all targets in their order: those just measured, else those that stood in old (the content
// of the results file; empty when there is none), else a row that says it was not run. Rows of old that are no target
// any more are dropped.
func Merge(old []byte, measured []Row, targets []Target) ([]Row, error) {
	var before file
	if len(old) > 0 {
		if err := json.Unmarshal(old, &before); err != nil {
			return nil, fmt.Errorf("reading the rows that stand in the results file: %w", err)
		}
	}
	byID := func(rows []Row, id string) (Row, bool) {
		i := slices.IndexFunc(rows, func(r Row) bool { return r.ID == id })
		if i < 0 {
			return Row{}, false
		}
		return rows[i], true
	}
	rows := make([]Row, 0, len(targets))
	for _, t := range targets {
		row, found := byID(measured, t.ID)
		if !found {
			row, found = byID(before.Rows, t.ID)
		}
		if !found || row.Figures == nil && t.Part == "" {
			row = Row{ID: t.ID, Skipped: unmeasured(t)}
		}
		row.Target = t.Text
		if row.Figures != nil {
			row.Met = t.Met(row.Figures)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func unmeasured(t Target) string {
	if t.Part == "" {
		return "the part is not built yet"
	}
	return "not run yet: make bench BENCH=" + t.Part
}

// Encode returns the content of the results file.
func Encode(rows []Row) ([]byte, error) {
	content, err := json.MarshalIndent(file{Rows: rows}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding results: %w", err)
	}
	return append(content, '\n'), nil
}
