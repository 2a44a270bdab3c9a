package failover

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// The calls of one measurement.
const (
	Rate    = 50              // per second
	Before  = 2 * time.Second // until something is broken
	timeout = 3 * time.Second // of a call, after which it has failed
	slow    = 150             // ms, above which a call was slow
)

// Call is what became of one call.
type Call struct {
	ID    string  `json:"id"`
	At    float64 `json:"at"`              // when it was begun, in seconds since the first
	MS    float64 `json:"ms"`              // until it ended
	Who   string  `json:"who,omitempty"`   // cluster/zone/Pod
	Error string  `json:"error,omitempty"` // its class
}

// Outcome is what became of all calls of a measurement.
type Outcome struct {
	Fault   string         `json:"fault"`
	Means   string         `json:"means"` // what was done
	Sent    int            `json:"sent"`
	Failed  int            `json:"failed"` // of those begun once the fault was complete
	CutOff  int            `json:"cutOff"` // failed of those that were under way then: they may have been carried out, so nobody repeats them
	Twice   int            `json:"twice"`  // delivered more than once
	WorstMS float64        `json:"worstMs"`
	SlowMS  float64        `json:"slowMs"`  // from the first to the last call that failed or was slow
	StruckS float64        `json:"struckS"` // when the fault was complete, in seconds since the first call
	Answers map[string]int `json:"answers"` // by cluster
	Errors  map[string]int `json:"errors,omitempty"`
	Calls   []Call         `json:"-"`
}

// Measure breaks something while the client calls, for as long as the fault lasts, mends it, and waits until all is well
// again.
func (s *Story) Measure(ctx context.Context, f Fault) (Outcome, error) {
	if err := s.await(ctx); err != nil {
		return Outcome{}, fmt.Errorf("before %q: %w", f.Name, err)
	}
	if f.Prepare != nil {
		if err := f.Prepare(ctx, s); err != nil {
			return Outcome{}, errors.Join(fmt.Errorf("preparing %q: %w", f.Name, err), s.mend(ctx, f))
		}
	}
	o, err := s.calls(ctx, Before+f.Lasts, func(ctx context.Context) error { return f.Strike(ctx, s) })
	o.Fault, o.Means = f.Name, f.Means
	if err = errors.Join(err, s.mend(ctx, f)); err != nil {
		return o, fmt.Errorf("%s: %w", f.Name, err)
	}
	return o, nil
}

func (s *Story) mend(ctx context.Context, f Fault) error {
	if f.Mend == nil {
		return nil
	}
	return f.Mend(context.WithoutCancel(ctx), s)
}

// calls has the client call for some time; after Before something may be done. The outcome has all the calls.
func (s *Story) calls(ctx context.Context, duration time.Duration, strike func(context.Context) error) (o Outcome, err error) {
	dir, err := os.MkdirTemp("", "failover-")
	if err != nil {
		return o, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := s.forgetCalls(ctx); err != nil {
		return o, err
	}
	file := filepath.Join(dir, "calls")
	cmd, said, err := s.inside(ctx, "m1", s.Workload, "load", "--connections=new", "--rate="+strconv.Itoa(Rate),
		"--duration="+duration.String(), "--timeout="+timeout.String(), "--requests="+file, URL)
	if err != nil {
		return o, err
	}
	if err := cmd.Start(); err != nil {
		return o, fmt.Errorf("starting the client: %w", err)
	}
	begun := time.Now()
	var struck time.Duration
	var failed error
	if strike != nil {
		timer := time.NewTimer(Before)
		select {
		case <-timer.C:
			failed = strike(ctx)
			struck = time.Since(begun)
		case <-ctx.Done():
			timer.Stop()
		}
	}
	if err := cmd.Wait(); err != nil {
		return o, errors.Join(failed, fmt.Errorf("the client: %w: %s", err, said))
	}
	if failed != nil {
		return o, failed
	}
	if o, err = read(file, struck.Seconds()); err != nil {
		return o, err
	}
	o.Twice, err = s.twice(ctx)
	return o, err
}

// read judges calls: those begun before struck, in seconds since the first, were under way when something broke.
func read(file string, struck float64) (Outcome, error) {
	content, err := os.Open(file) //nolint:gosec // G304: our own
	if err != nil {
		return Outcome{}, fmt.Errorf("reading the calls: %w", err)
	}
	defer func() { _ = content.Close() }()
	var calls []Call
	for lines := json.NewDecoder(bufio.NewReader(content)); ; {
		var c Call
		if err := lines.Decode(&c); errors.Is(err, io.EOF) {
			return Judge(calls, struck), nil
		} else if err != nil {
			return Outcome{}, fmt.Errorf("reading the calls: %w", err)
		}
		calls = append(calls, c)
	}
}

// Judge sums calls up. Something broke struck seconds after the first was begun; 0: nothing did.
func Judge(calls []Call, struck float64) Outcome {
	o := Outcome{Sent: len(calls), StruckS: struck, Answers: map[string]int{}, Errors: map[string]int{}, Calls: calls}
	slices.SortFunc(o.Calls, func(a, b Call) int { return int((a.At - b.At) * 1e6) })
	first, last := -1.0, -1.0
	for _, c := range o.Calls {
		switch {
		case c.Error == "":
			cluster, _, _ := strings.Cut(c.Who, "/")
			o.Answers[cluster]++
			o.WorstMS = max(o.WorstMS, c.MS)
		case c.At < struck:
			o.CutOff++
			o.Errors[c.Error]++
		default:
			o.Failed++
			o.Errors[c.Error]++
		}
		if c.Error != "" || c.MS > slow {
			if first < 0 {
				first = c.At
			}
			last = c.At
		}
	}
	if first >= 0 {
		o.SlowMS = (last-first)*1000 + 1000/Rate
	}
	return o
}

// everyWeb calls visit for each running Pod of the service that an API server tells of.
func (s *Story) everyWeb(ctx context.Context, visit func(member, pod string) error) error {
	for _, member := range s.members() {
		pods, err := s.pods(ctx, member, namespace, "app=web")
		if err != nil {
			continue // none runs, or its API server does not
		}
		for _, pod := range pods {
			if err := visit(member, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// asked sends a request about calls to a Pod, through its API server.
func (s *Story) asked(ctx context.Context, verb, member, pod string) (string, error) {
	return s.run(ctx, "", "kubectl", "--context="+member, verb, "--raw=/api/v1/namespaces/"+namespace+"/pods/"+pod+":8080/proxy/requests")
}

func (s *Story) forgetCalls(ctx context.Context) error {
	return s.everyWeb(ctx, func(member, pod string) error {
		_, err := s.asked(ctx, "delete", member, pod)
		return err
	})
}

// errSilent says that no Pod tells which calls it had.
var errSilent = errors.New("no Pod tells which calls it had")

// twice counts the calls that were delivered more than once, to whatever Pods. Those that have died, and those in a cluster
// that has, tell nothing any more.
func (s *Story) twice(ctx context.Context) (int, error) {
	count := map[string]int{}
	told := false
	err := s.everyWeb(ctx, func(member, pod string) error {
		text, err := s.asked(ctx, "get", member, pod)
		if err != nil {
			return nil //nolint:nilerr // it has died
		}
		told = true
		for line := range strings.Lines(text) {
			var id string
			var times int
			if n, _ := fmt.Sscanf(line, "%q %d\n", &id, &times); n == 2 {
				count[id] += times
			}
		}
		return nil
	})
	if !told {
		err = cmp.Or(err, errSilent)
	}
	twice := 0
	for _, times := range count {
		if times > 1 {
			twice++
		}
	}
	return twice, err
}

// Table prints outcomes, one per row.
func Table(w io.Writer, outcomes []Outcome) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(t, "FAULT\tCALLS\tFAILED\tCUT OFF\tTWICE\tWORST\tSLOW FOR\tANSWERED BY")
	for _, o := range outcomes {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%.0f ms\t%.1f s\t%s\n", o.Fault, o.Sent, o.Failed, o.CutOff, o.Twice, o.WorstMS, o.SlowMS/1000, o.who())
	}
	return t.Flush()
}

// who tells which clusters answered, and how many calls.
func (o *Outcome) who() string {
	var texts []string
	for _, cluster := range slices.Sorted(maps.Keys(o.Answers)) {
		texts = append(texts, fmt.Sprintf("%s %d", cluster, o.Answers[cluster]))
	}
	return strings.Join(texts, ", ")
}

// Save writes a table in Markdown into a file, and the calls of each outcome beside it, in a file of JSON lines that is named
// after its fault.
func Save(dir, table string, outcomes []Outcome) error {
	var text strings.Builder
	text.WriteString("# What clients noticed\n\nWritten by `hansa-lab failover --all --save docs/failover`; [failover.md](../failover.md) says what the columns mean. " +
		"What became of each call stands in the file of JSON lines that has the name of the fault.\n\n")
	text.WriteString("| fault | what was done | calls | failed | cut off | twice | worst | slow for | answered by |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		fmt.Fprintf(&text, "| %s | %s | %d | %d | %d | %d | %.0f ms | %.1f s | %s |\n", o.Fault, o.Means, o.Sent, o.Failed, o.CutOff, o.Twice, o.WorstMS, o.SlowMS/1000, o.who())
		var lines strings.Builder
		encoder := json.NewEncoder(&lines)
		for _, line := range append([]any{o}, calls(o.Calls)...) {
			if err := encoder.Encode(line); err != nil {
				return fmt.Errorf("encoding the calls of %q: %w", o.Fault, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(o.Fault, " ", "-")+".jsonl"), []byte(lines.String()), 0o644); err != nil { //nolint:gosec // G306: results are for everybody
			return fmt.Errorf("keeping the calls: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, table), []byte(text.String()), 0o644); err != nil { //nolint:gosec // G306: likewise
		return fmt.Errorf("keeping the table: %w", err)
	}
	return nil
}

func calls(all []Call) []any {
	lines := make([]any, len(all))
	for i := range all {
		lines[i] = all[i]
	}
	return lines
}
