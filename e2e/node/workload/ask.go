package workload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hansa-dev/hansa/e2e/node/workload/load"
	"github.com/hansa-dev/hansa/e2e/node/workload/tally"
)

const targetsHelp = `Targets are http://, https://, tcp://, udp://, grpc:// and grpcs:// URLs; all but the first two need the test server
(workload echo) behind them, and a query is passed on to it as parameters. Names are resolved by the system's resolver
for each new connection. The program xdsload also takes xds:///NAME:PORT, for servers of a gRPC service that the control
plane in the file GRPC_XDS_BOOTSTRAP names.`

const loadHelp = `Send requests at a constant rate, to the targets in turn, and print the outcomes as JSON lines.

The schedule does not wait for answers, and latencies count from the time a request was due. Each request is counted in
the interval in which it was due; an interval is printed when all its requests have an outcome:

  {"type":"interval","start":"…","at":0,"seconds":1,"sent":50,"ok":49,"failed":1,"abandoned":0,
   "errors":{"timeout":1},"latencyMs":{"p50":0.4,"p90":0.6,"p99":1.1,"max":1.2},"answers":{"m1/z1/echo-0":49},
   "seen":{"m1/z1/echo-0":{"first":"…","last":"…"}}}

and at the end, also after SIGTERM or SIGINT, a summary with the same counts, without "at", and with

  {"type":"summary",…,"rate":50,"worstGap":{"ms":230.1,"from":"…","to":"…","at":3.2},
   "targets":{"http://echo/":{"ok":499,"failed":1}}}

Latencies are those of successes. Seen says when the first and the last answer of each came. worstGap is the longest time without the end of a success. Errors are http-STATUS,
grpc-CODE, timeout, refused, reset, closed, unreachable, dns, tls, bad-answer, overload (not sent, for --max-in-flight
requests were under way) and other. Abandoned requests were under way when the run was ended.

The exit status is 1 if more than --max-failures requests failed, or --until-success saw no success; 2 if the load
could not be run at all.

` + targetsHelp

func loadCommand() *cobra.Command {
	var options load.Options
	var fresh connections
	var headers []string
	var maxFailures int64
	var exitCode bool
	var requests string
	cmd := &cobra.Command{
		Use:   "load [flags] URL...",
		Short: "Send requests at a constant rate and print outcomes over time as JSON",
		Long:  loadHelp,
		Args:  arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (failed error) {
			options.Targets, options.Out = args, cmd.OutOrStdout()
			options.NewConnections = bool(fresh)
			var err error
			if options.Header, err = header(headers); err != nil {
				return usageError{err}
			}
			if exitCode {
				maxFailures = 0
			}
			if requests != "" {
				file, err := os.Create(requests) //nolint:gosec // G304: the user's choice
				if err != nil {
					return usageError{fmt.Errorf("--requests: %w", err)}
				}
				defer func() { failed = errors.Join(failed, file.Close()) }()
				options.Requests = file
			}
			summary, err := load.Run(cmd.Context(), options)
			if err != nil {
				return usageError{err}
			}
			return verdict(summary, maxFailures, options.UntilSuccess)
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&options.Rate, "rate", 10, "requests per second, over all targets")
	flags.DurationVar(&options.Duration, "duration", 10*time.Second, "how long; 0: until SIGTERM or SIGINT")
	flags.DurationVar(&options.Interval, "interval", time.Second, "time that a line reports")
	flags.IntVar(&options.MaxInFlight, "max-in-flight", 1000, "requests under way at a time; more are counted as overload")
	flags.Var(&fresh, "connections", "`reuse|new`: keep connections for later requests, or make one for each")
	flags.BoolVar(&options.UntilSuccess, "until-success", false, "end with the first success; exit 1 without one")
	flags.Int64Var(&maxFailures, "max-failures", -1, "exit 1 if more requests failed; -1: any number may")
	flags.BoolVar(&exitCode, "exit-code", false, "exit 1 if any request failed: the same as --max-failures 0")
	flags.StringVar(&requests, "requests", "", "`FILE` for a line of JSON per request; HTTP requests then have a name, which echo servers count (/requests)")
	flags.BoolVar(&options.HTTP2, "http2", false, "HTTP/2 for http:// and https:// targets")
	clientFlags(flags, &options.Client, &headers)
	return cmd
}

// verdict is the error of a run that did not go as it should.
func verdict(s tally.Summary, maxFailures int64, untilSuccess bool) error {
	switch {
	case untilSuccess && s.OK == 0:
		return fmt.Errorf("none of %d requests succeeded", s.Sent)
	case !untilSuccess && maxFailures >= 0 && s.Failed > maxFailures:
		return fmt.Errorf("%d of %d requests failed, and at most %d may", s.Failed, s.Sent, maxFailures)
	}
	return nil
}

func clientFlags(flags *pflag.FlagSet, client *load.Client, headers *[]string) {
	flags.DurationVar(&client.Timeout, "timeout", 2*time.Second, "of each request")
	flags.StringVar(&client.CAFile, "ca", "", "file with the certificates to trust, PEM (default: the system's)")
	flags.StringVar(&client.ServerName, "server-name", "", "name that the server's certificate must have (default: the target's host)")
	flags.StringArrayVar(headers, "header", nil, "`NAME:VALUE` to add to HTTP requests and gRPC metadata; Host sets the host")
}

// header reads lines like "Name: value".
func header(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("header %q: want NAME:VALUE", line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// connections is the value of a flag: whether each request gets a connection of its own.
type connections bool

// String implements pflag.Value.
func (c *connections) String() string {
	if *c {
		return "new"
	}
	return "reuse"
}

// Set implements pflag.Value.
func (c *connections) Set(value string) error {
	switch value {
	case "reuse", "new":
		*c = value == "new"
		return nil
	}
	return errors.New("want reuse or new")
}

// Type implements pflag.Value.
func (c *connections) Type() string { return "string" }

func waitCommand() *cobra.Command {
	var client load.Client
	var headers []string
	var patience, interval time.Duration
	cmd := &cobra.Command{
		Use:   "wait [flags] URL|HOST:PORT",
		Short: "Wait until a server answers, or a port accepts connections",
		Long: "Ask a server until it answers successfully, print who it is if it says so, and exit 0; or exit 1 when\n" +
			"--patience is over. For HOST:PORT it is enough that the port accepts a connection.\n\n" + targetsHelp,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if client.Header, err = header(headers); err != nil {
				return usageError{err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			who, err := load.Wait(ctx, client, args[0], interval)
			if err == nil && who != "" {
				fmt.Fprintln(cmd.OutOrStdout(), who)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&patience, "patience", time.Minute, "how long to go on asking")
	flags.DurationVar(&interval, "interval", 200*time.Millisecond, "time between attempts")
	clientFlags(flags, &client, &headers)
	return cmd
}
