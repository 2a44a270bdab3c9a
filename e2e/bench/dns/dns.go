// Package dns measures the DNS server: how many queries it answers on one core, beside CoreDNS in multicluster mode and Knot
// with a static zone, each alone on the same core with the same names, questions and senders; how long a change of endpoints
// in one cluster takes to the answers in another one; and how long a start takes from what is kept on disk.
//
// CoreDNS reads its names from an API server that only lists them; nothing changes while it is measured. Knot reads a
// zone file. Hansa has a snapshot of the service table. The senders run on the other cores.
package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// The rows of this part.
const (
	rateRow   = "dns-qps"
	changeRow = "dns-change"
	coldRow   = "dns-cold-start"
)

// How each server is measured.
const (
	duration = 3 * time.Second
	window   = 1000 // queries under way when a server does all it can
	share    = 0.8  // of that, for delays
)

// Options say what to run.
type Options struct {
	Runs int
	Only []string // rows; empty means all
	Out  io.Writer
}

// Child runs the part's processes, if args ask for one of them.
func Child(ctx context.Context, args []string, in io.Reader, out io.Writer) (bool, error) {
	switch {
	case len(args) == 0:
		return false, nil
	case args[0] == senderCommand:
		return true, serveSender(ctx, in, out)
	case args[0] == serverCommand:
		return true, serveHansa(ctx, in, out)
	}
	return false, nil
}

// bench is one run of the part.
type bench struct {
	Options

	dir                      string
	serverCores, senderCores []int
	sender                   *child.Process
	knotd                    string // path of the program
	dnsperf                  string // likewise; empty: not installed
}

// series are the figures of one server.
type series struct {
	rate, cpu, p50, p99, dnsperf result.Runs // answers per second, µs of processor per answer, ms, ms, answers per second
	lost                         result.Runs // share of queries at the lower load
}

// part measures one row. It returns no figures, but why not, where the machine has not what it needs.
type part struct {
	row     string
	measure func(context.Context, *bench) (f *result.Figures, skipped string, err error)
}

// Run measures all rows of the part, or some. The rows it returns beside an error are good.
func Run(ctx context.Context, o Options) ([]result.Row, error) {
	if o.Runs < 1 {
		return nil, errors.New("at least one run is needed")
	}
	average := rig.LoadAverage()
	available, err := cores()
	if err != nil {
		return nil, err
	}
	var rows []result.Row
	var errs []error
	for _, p := range []part{{rateRow, rate}, {changeRow, change}, {coldRow, cold}} {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.row) || ctx.Err() != nil {
			continue
		}
		f, why, err := measured(ctx, &bench{Options: o, serverCores: available[:1], senderCores: available[1:]}, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.row, err))
			continue
		}
		if f != nil {
			f.Load.Average, f.Load.Cores, f.Time = average, runtime.NumCPU(), time.Now().UTC().Format(time.RFC3339)
		}
		rows = append(rows, result.Row{ID: p.row, Figures: f, Skipped: why})
	}
	return rows, errors.Join(errs...)
}

// measured measures a row in a folder of its own.
func measured(ctx context.Context, b *bench, p part) (_ *result.Figures, _ string, err error) {
	if b.dir, err = os.MkdirTemp("", "bench-dns-"); err != nil {
		return nil, "", fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	return p.measure(ctx, b)
}

func cold(ctx context.Context, b *bench) (*result.Figures, string, error) {
	f, err := b.coldStart(ctx)
	return f, "", err
}

// rate is the row of how many queries are answered.
func rate(ctx context.Context, b *bench) (*result.Figures, string, error) {
	if len(b.senderCores) < 2 {
		return nil, fmt.Sprintf("this machine has %d cores; the server needs one, and the senders two others", 1+len(b.senderCores)), nil
	}
	b.knotd, b.dnsperf = find("knotd"), find("dnsperf")
	if b.knotd == "" {
		return nil, "Knot is a reference and is not installed: apt-get install knot", nil
	}
	f, err := b.rates(ctx)
	return f, "", err
}

func (b *bench) rates(ctx context.Context) (*result.Figures, error) {
	if err := os.WriteFile(filepath.Join(b.dir, "questions"), []byte(text(mix(20_000))), 0o600); err != nil {
		return nil, fmt.Errorf("writing questions for dnsperf: %w", err)
	}
	err := pinned(b.senderCores, func() (err error) {
		b.sender, err = child.Start(ctx, senderCommand)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer b.sender.Stop()
	all := map[string]*series{}
	for i := range b.Runs {
		for _, start := range []func(context.Context) (*server, error){b.hansa, b.coredns, b.knot} {
			if err := b.measure(ctx, i, start, all); err != nil {
				return nil, err
			}
		}
	}
	return figures(all["hansa"], all["coredns"], all["knot"], b.dnsperf != ""), nil
}

// measure starts a server, measures it and stops it.
func (b *bench) measure(ctx context.Context, run int, start func(context.Context) (*server, error), all map[string]*series) error {
	s, err := start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if all[s.name] == nil {
		all[s.name] = &series{}
	}
	to := all[s.name]
	if _, err := b.ask(s, load{Window: window, For: time.Second}, nil); err != nil { // warms it up
		return err
	}
	full, err := b.ask(s, load{Window: window, For: duration}, &to.cpu)
	if err != nil {
		return err
	}
	rate := float64(full.Answered) / full.Elapsed.Seconds()
	most, err := b.ask(s, load{Rate: share * rate, For: duration}, nil)
	if err != nil {
		return err
	}
	to.rate = append(to.rate, rate)
	to.p50, to.p99 = append(to.p50, milliseconds(most.P50)), append(to.p99, milliseconds(most.P99))
	to.lost = append(to.lost, 1-float64(most.Answered)/float64(max(1, most.Sent)))
	second := 0.0
	if b.dnsperf != "" {
		if second, err = b.perf(ctx, s); err != nil {
			return err
		}
		to.dnsperf = append(to.dnsperf, second)
	}
	_, _ = fmt.Fprintf(b.Out, "%s run %d: %-7s %7.0f queries per second with %.2f µs of processor each; at 80 %% p50 %.2f ms, p99 %.2f ms, %.3f %% lost; dnsperf %.0f per second\n",
		rateRow, run+1, s.name, rate, to.cpu[len(to.cpu)-1], milliseconds(most.P50), milliseconds(most.P99), 100*to.lost[len(to.lost)-1], second)
	return nil
}

// ask sends queries to a server, and notes its processor time per answer in µs.
func (b *bench) ask(s *server, l load, cpu *result.Runs) (outcome, error) {
	l.To = s.addr
	before, err := rig.CPUOf(s.pid)
	if err != nil {
		return outcome{}, err
	}
	var o outcome
	if err := b.sender.Call(l, &o); err != nil {
		return o, err
	}
	after, err := rig.CPUOf(s.pid)
	if err != nil {
		return o, err
	}
	if o.Answered == 0 || o.Errors > 0 || o.Missing == 0 || o.Missing > o.Answered/10 {
		return o, fmt.Errorf("%s did not answer as it should: %+v", s.name, o)
	}
	if cpu != nil {
		*cpu = append(*cpu, float64((after-before).Microseconds())/float64(o.Answered))
	}
	return o, nil
}

var perSecond = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)

// perf has dnsperf ask for as much as it can, and returns the answers per second.
func (b *bench) perf(ctx context.Context, s *server) (float64, error) {
	out := filepath.Join(b.dir, "dnsperf.txt")
	to, err := os.Create(out) //nolint:gosec // G304: in our own folder
	if err != nil {
		return 0, fmt.Errorf("running dnsperf: %w", err)
	}
	defer func() { _ = to.Close() }()
	cmd := exec.CommandContext(ctx, b.dnsperf, "-s", s.addr.Addr().String(), "-p", strconv.Itoa(int(s.addr.Port())), //nolint:gosec // G204: our own arguments
		"-d", filepath.Join(b.dir, "questions"), "-l", strconv.Itoa(int(duration.Seconds())), "-c", "4", "-T", "2", "-q", strconv.Itoa(window), "-e")
	cmd.Stdout, cmd.Stderr = to, to
	if err := pinned(b.senderCores, cmd.Start); err != nil {
		return 0, fmt.Errorf("running dnsperf: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("running dnsperf: %w", err)
	}
	said, err := os.ReadFile(out) //nolint:gosec // G304: likewise
	if err != nil {
		return 0, fmt.Errorf("reading what dnsperf found: %w", err)
	}
	found := perSecond.FindSubmatch(said)
	if found == nil {
		return 0, fmt.Errorf("dnsperf told no rate: %s", said)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// figures compares the servers. What counts is answers per second of processor time: on a quiet machine, that is the rate
// of one core, and on a busy one it hardly changes. Limits of targets are upper ones, so what CoreDNS answers is told as a
// share of ours.
func figures(hansa, coredns, knot *series, dnsperf bool) *result.Figures {
	f := result.Of(perCore(hansa.cpu), perCore(coredns.cpu), "1/s").
		With("coredns_share", hansa.cpu.Median()/coredns.cpu.Median()).
		With("cpu_us", hansa.cpu.Median()).With("coredns_cpu_us", coredns.cpu.Median()).With("knot_cpu_us", knot.cpu.Median()).
		With("cpu_of_knot", hansa.cpu.Median()/knot.cpu.Median()).
		With("answered_1/s", hansa.rate.Median()).With("coredns_answered_1/s", coredns.rate.Median()).With("knot_answered_1/s", knot.rate.Median()).
		With("p50_ms", hansa.p50.Median()).With("p99_ms", hansa.p99.Median()).
		With("coredns_p99_ms", coredns.p99.Median()).With("knot_p99_ms", knot.p99.Median()).
		With("lost_percent", 100*hansa.lost.Median())
	if dnsperf {
		f.With("dnsperf_1/s", hansa.dnsperf.Median()).With("coredns_dnsperf_1/s", coredns.dnsperf.Median()).With("knot_dnsperf_1/s", knot.dnsperf.Median())
	}
	f.Note = "answers per second of processor time, one core each; answered: per second with 1,000 queries under way; p99: at 80 % of that rate; " +
		"the reference is CoreDNS in multicluster mode, which reads from an API server in which nothing changes; Knot serves a static zone"
	if !dnsperf {
		f.Note += "; dnsperf is not installed"
	}
	return f
}

// perCore turns µs per answer into answers per second.
func perCore(cpu result.Runs) result.Runs {
	rates := make(result.Runs, len(cpu))
	for i, us := range cpu {
		rates[i] = 1e6 / us
	}
	return rates
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
