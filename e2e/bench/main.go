// Command bench measures Hansa in a lab of its own, beside references in the same run, and keeps the figures in
// bench/results.json. bench/README.md says how each row is measured.
//
//	go run ./e2e/bench [--part propagation] [--runs 5] [--out bench/results.json]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/hansa-dev/hansa/e2e/bench/boot"
	"github.com/hansa-dev/hansa/e2e/bench/dns"
	"github.com/hansa-dev/hansa/e2e/bench/eds"
	"github.com/hansa-dev/hansa/e2e/bench/gateway"
	"github.com/hansa-dev/hansa/e2e/bench/propagation"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/watch"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == writer.Subcommand {
		return writer.Serve(ctx, args[1], args[2:], os.Stdin, os.Stdout)
	}
	if child, err := eds.Child(ctx, args, os.Stdin, os.Stdout); child {
		return err
	}
	if child, err := dns.Child(ctx, args, os.Stdin, os.Stdout); child {
		return err
	}
	if child, err := gateway.Child(ctx, args, os.Stdin, os.Stdout); child {
		return err
	}
	var (
		flags  = flag.NewFlagSet("bench", flag.ContinueOnError)
		part   = flags.String("part", "", "part to run: "+strings.Join(result.Parts(), ", ")+" (default all)")
		out    = flags.String("out", "bench/results.json", "file that keeps the rows; those not run now stay as they are")
		runs   = flags.Int("runs", 5, "runs of each row, of which the median counts")
		scale  = flags.Float64("scale", 1, "size of the work; other than 1 is for trying things out and is not kept")
		only   = flags.String("rows", "", "rows to run, separated by commas (default all of the part)")
		traces = flags.String("profile", "", "folder for profiles of the hub under load; profiling costs time, so nothing is kept")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *part != "" && !slices.Contains(result.Parts(), *part) {
		return fmt.Errorf("no part %q: there is %s", *part, strings.Join(result.Parts(), ", "))
	}
	options := propagation.Options{Runs: *runs, Scale: *scale, Profiles: *traces, Out: os.Stderr}
	if *only != "" {
		options.Only = strings.Split(*only, ",")
	}
	measured, err := measure(ctx, *part, options)
	rows, mergeErr := keep(*out, measured, *scale == 1 && *traces == "")
	if err = errors.Join(err, mergeErr); mergeErr != nil {
		return err
	}
	return errors.Join(err, show(os.Stdout, rows, measured))
}

// measure runs one part, or all. Rows of a part are good also if another part failed.
func measure(ctx context.Context, part string, o propagation.Options) ([]result.Row, error) {
	var rows []result.Row
	var errs []error
	wants := func(name string) bool { return part == "" || part == name }
	if wants(result.Lab) && (len(o.Only) == 0 || slices.Contains(o.Only, boot.Row)) {
		found, err := boot.Run(ctx, boot.Options{Runs: o.Runs, Out: o.Out})
		rows, errs = append(rows, found...), append(errs, err)
	}
	if wants(result.Propagation) {
		found, err := propagation.Run(ctx, o)
		rows, errs = append(rows, found...), append(errs, err)
	}
	if wants(result.Services) {
		found, err := eds.Run(ctx, eds.Options(o))
		rows, errs = append(rows, found...), append(errs, err)
	}
	if wants(result.Watching) {
		found, err := watch.Run(ctx, watch.Options{Runs: o.Runs, Only: o.Only, Out: o.Out})
		rows, errs = append(rows, found...), append(errs, err)
	}
	if wants(result.DNS) {
		found, err := dns.Run(ctx, dns.Options{Runs: o.Runs, Only: o.Only, Out: o.Out})
		rows, errs = append(rows, found...), append(errs, err)
	}
	if wants(result.Gateway) {
		found, err := gateway.Run(ctx, gateway.Options{Runs: o.Runs, Only: o.Only, Out: o.Out})
		rows, errs = append(rows, found...), append(errs, err)
	}
	return rows, errors.Join(errs...)
}

// keep merges what was measured into the file, or only into what is shown.
func keep(path string, measured []result.Row, store bool) ([]result.Row, error) {
	old, err := os.ReadFile(path) //nolint:gosec // G304: the user's choice
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	rows, err := result.Merge(old, measured, result.Targets())
	if err != nil || !store {
		return rows, err
	}
	content, err := result.Encode(rows)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // G306: results are for everybody
		return nil, fmt.Errorf("writing results: %w", err)
	}
	return rows, nil
}

// show prints the rows of this run only; others of the file are of another day.
func show(w io.Writer, rows, measured []result.Row) error {
	shown := slices.DeleteFunc(slices.Clone(rows), func(r result.Row) bool {
		return !slices.ContainsFunc(measured, func(m result.Row) bool { return m.ID == r.ID })
	})
	if len(shown) == 0 {
		return nil
	}
	return result.WriteTable(w, shown)
}
