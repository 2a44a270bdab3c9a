package traffic_test

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/script"
)

// request is what an xDS client asks for, and how.
type request struct {
	cluster  string // where the client is
	service  string
	port     string
	query    string // parameters of the test server
	headers  []string
	rate     string
	duration string
}

// parseRequest reads flags and the cluster. It returns what comes behind.
func parseRequest(ts *testscript.TestScript, args []string) (request, []string) {
	r := request{}
	flags := flag.NewFlagSet("request", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&r.service, "service", "echo", "")
	flags.StringVar(&r.port, "port", "9090", "")
	flags.StringVar(&r.query, "query", "", "")
	flags.StringVar(&r.rate, "rate", "80", "")
	flags.StringVar(&r.duration, "duration", "500ms", "")
	flags.Func("header", "", func(value string) error {
		r.headers = append(r.headers, "--header="+value)
		return nil
	})
	ts.Check(flags.Parse(args))
	if flags.NArg() == 0 {
		ts.Fatalf("name the cluster that asks")
	}
	r.cluster = flags.Arg(0)
	return r, flags.Args()[1:]
}

// command is a command line for `hansa-lab exec` and `hansa-lab run --in`. The client's certificate and bootstrap file lie
// in the script's folder.
func (r request) command(ts *testscript.TestScript, options ...string) []string {
	dir := filepath.Join(ts.Getenv("WORK"), r.cluster)
	bootstrap := filepath.Join(dir, "bootstrap.json")
	if _, err := os.Stat(bootstrap); errors.Is(err, os.ErrNotExist) {
		ts.Check(ts.Exec("hansa", "--context=hub", "xds", "bootstrap", "--cluster="+r.cluster, "--dir="+dir, "--output="+bootstrap))
	}
	target := "xds:///" + r.service + "." + ts.Getenv("NS") + ".svc.clusterset.local:" + r.port
	if r.query != "" {
		target += "?" + r.query
	}
	return slices.Concat([]string{r.cluster, "--", "env", "GRPC_XDS_BOOTSTRAP=" + bootstrap, ts.Getenv("XDSLOAD"), "load"}, options, r.headers, []string{target})
}

// spellAsk is the program that asks, and its arguments.
func spellAsk(ts *testscript.TestScript, args []string) (program string, full []string) {
	r, rest := parseRequest(ts, args)
	if len(rest) != 0 {
		ts.Fatalf("usage: ask [-service NAME] [-port NUMBER] [-query PARAMETERS] [-header NAME:VALUE]... [-rate N] [-duration DURATION] CLUSTER")
	}
	return spell(ts, "lab", append([]string{"exec"}, r.command(ts, "--rate="+r.rate, "--duration="+r.duration)...))
}

// answersCommand waits until every request of a client in a cluster is answered, and by the clusters that are named.
func answersCommand(ts *testscript.TestScript, neg bool, args []string) {
	r, want := parseRequest(ts, args)
	if neg || len(want) == 0 {
		ts.Fatalf("usage: answers [FLAGS OF ask] CLUSTER BY...")
	}
	slices.Sort(want)
	program, full := spell(ts, "lab", append([]string{"exec"}, r.command(ts, "--rate="+r.rate, "--duration="+r.duration)...))
	for deadline := time.Now().Add(script.Patience); ; {
		err := ts.Exec(program, full...)
		last, reportErr := lastReport(ts.ReadFile("stdout"))
		if err == nil && reportErr == nil && last.Failed == 0 && slices.Equal(last.clusters(), want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: clients in %s are answered by %v, and %d requests failed (%v); want %v and none",
				script.Patience, r.cluster, last.clusters(), last.Failed, reportErr, want)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// shareCommand sends requests, once, and looks which part of them a cluster answers, however long that takes.
func shareCommand(ts *testscript.TestScript, neg bool, args []string) {
	r, rest := parseRequest(ts, append([]string{"-rate=1000", "-duration=1s"}, args...))
	if neg || len(rest) != 3 {
		ts.Fatalf("usage: share [FLAGS OF ask] CLUSTER BY LEAST MOST")
	}
	least, err := strconv.ParseFloat(rest[1], 64)
	ts.Check(err)
	most, err := strconv.ParseFloat(rest[2], 64)
	ts.Check(err)
	program, full := spell(ts, "lab", append([]string{"exec"}, r.command(ts, "--rate="+r.rate, "--duration="+r.duration, "--timeout=10s")...))
	ts.Check(ts.Exec(program, full...))
	last, err := lastReport(ts.ReadFile("stdout"))
	ts.Check(err)
	var by int64
	for who, count := range last.Answers {
		if strings.HasPrefix(who, rest[0]+"/") {
			by += count
		}
	}
	percent := 100 * float64(by) / float64(max(1, last.OK))
	if last.Failed != 0 || last.OK == 0 || percent < least || percent > most {
		ts.Fatalf("%s answers %.1f %% of %d requests, and %d failed; want %s to %s %%, and none", rest[0], percent, last.OK, last.Failed, rest[1], rest[2])
	}
	ts.Logf("%s answers %.1f %% of %d requests", rest[0], percent, last.OK)
}

// loadCommand starts loads that go on until unload, whatever comes of their requests.
func loadCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: load CLUSTER...")
	}
	for _, cluster := range args {
		line := request{cluster: cluster, service: "echo", port: "9090"}.command(ts, "--rate=50", "--duration=0", "--interval=250ms")
		program, full := spell(ts, "lab", append([]string{"run", loadName(ts, cluster), "--in"}, line...))
		script.Outcome(ts, false, ts.Exec(program, full...))
	}
	for _, cluster := range args {
		for deadline := time.Now().Add(script.Patience); len(intervals(ts, cluster)) == 0; {
			if time.Now().After(deadline) {
				ts.Fatalf("the load in %s does not begin: %s", cluster, script.Tail(loadLog(ts, cluster), 1<<10))
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// loadedCommand waits until those and no others answer the load that are named.
func loadedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: loaded CLUSTER BY...")
	}
	awaitLoad(ts, args[0], args[1:], time.Time{})
}

// awaitLoad waits until the last interval of a load, which has begun at that time or later, is answered by those who are
// named, and by no others.
func awaitLoad(ts *testscript.TestScript, cluster string, by []string, from time.Time) {
	want := slices.Sorted(slices.Values(by))
	for deadline := time.Now().Add(script.Patience); ; {
		all := intervals(ts, cluster)
		last := all[len(all)-1]
		if !last.Start.Before(from) && last.Failed == 0 && slices.Equal(last.clusters(), want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: the load in %s is answered by %v, want %v:\n%s", script.Patience, cluster, last.clusters(), want, script.Tail(loadLog(ts, cluster), 4<<10))
		}
		<-time.After(50 * time.Millisecond)
	}
}

// failingCommand waits until all requests of a load fail, and in one way only.
func failingCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: failing CLUSTER ERROR")
	}
	for deadline := time.Now().Add(script.Patience); ; {
		all := intervals(ts, args[0])
		last := all[len(all)-1]
		if last.OK == 0 && last.Failed > 0 && last.Errors[args[1]] == last.Failed {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: of the load in %s %d succeed, and others end with %v; want %s for all", script.Patience, args[0], last.OK, last.Errors, args[1])
		}
		<-time.After(50 * time.Millisecond)
	}
}

// unloadCommand ends a load. None of its requests may have failed; its output is the summary.
func unloadCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unload CLUSTER BY...")
	}
	cluster := args[0]
	program, full := spell(ts, "lab", []string{"stop", loadName(ts, cluster)})
	script.Outcome(ts, false, ts.Exec(program, full...))
	log := script.Tail(loadLog(ts, cluster), 64<<10)
	last, err := lastReport(log)
	ts.Check(err)
	if want := slices.Sorted(slices.Values(args[1:])); last.Failed != 0 || !slices.Equal(last.clusters(), want) {
		ts.Fatalf("%d requests from %s failed, and %v answered; want none, and %v:\n%s", last.Failed, cluster, last.clusters(), want, log)
	}
}

func loadName(ts *testscript.TestScript, cluster string) string {
	return "load-" + ts.Getenv("NS") + "-" + cluster
}

func loadLog(ts *testscript.TestScript, cluster string) string {
	return filepath.Join(filepath.Dir(ts.Getenv("KUBECONFIG")), "programs", loadName(ts, cluster)+".log")
}
