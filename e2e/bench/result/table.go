package result

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable shows rows to a person, with the further figures of each row below it. Rows that no part measures yet
// are counted only.
func WriteTable(w io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) } // Flush tells of errors
	line("ROW", "VALUE", "MIN–MAX", "REFERENCE", "RATIO", "TARGET", "")
	missing := 0
	for _, r := range rows {
		switch {
		case r.Figures != nil:
			line(r.ID, quantity(r.Value, r.Unit), number(r.Min)+"–"+number(r.Max), r.reference(), r.ratio(), r.Target, r.verdict())
			for _, name := range slices.Sorted(maps.Keys(r.Detail)) {
				line("  "+name, number(r.Detail[name]), "", "", "", "", "")
			}
		case r.Skipped == unmeasured(Target{}):
			missing++
		default:
			line(r.ID, "skipped: "+r.Skipped, "", "", "", r.Target, "")
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if missing > 0 {
		_, _ = fmt.Fprintf(w, "%d more rows belong to parts that are not built yet.\n", missing)
	}
	return nil
}

func (f *Figures) reference() string {
	if f.Reference == nil {
		return "–"
	}
	return quantity(*f.Reference, f.Unit)
}

func (f *Figures) ratio() string {
	if f.Ratio == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f×", *f.Ratio)
}

func (f *Figures) verdict() string {
	if f.Met {
		return "met"
	}
	return "MISSED"
}

func quantity(x float64, unit string) string { return number(x) + " " + unit }

// number shows three significant digits at least, and no more decimals than that needs.
func number(x float64) string {
	switch {
	case x >= 100 || x == float64(int(x)):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	default:
		return strconv.FormatFloat(x, 'f', 3, 64)
	}
}
