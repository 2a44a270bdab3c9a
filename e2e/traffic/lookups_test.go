package traffic_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/script"
)

// lookupsEnv has this program look a name up, again and again, instead of testing: "SERVER NAME TYPE".
const lookupsEnv = "TRAFFIC_LOOK_UP"

// How often it does, and for how long it waits for an answer.
const (
	lookupPause   = 4 * time.Millisecond
	lookupTimeout = 250 * time.Millisecond
)

// lookup is what a name was, from that time on.
type lookup struct {
	At     time.Time `json:"at"`
	Answer string    `json:"answer"` // the code, the sorted addresses, and "stale" if it says so; or "none"
}

// followName prints what a name is, each time that changes, until somebody ends the process.
func followName(what string) error {
	fields := strings.Fields(what)
	if len(fields) != 3 {
		return fmt.Errorf("%s=%q: want SERVER NAME TYPE", lookupsEnv, what)
	}
	client := dns.Client{Timeout: lookupTimeout, UDPSize: 1232}
	query := new(dns.Msg).SetQuestion(dns.Fqdn(fields[1]), dns.StringToType[fields[2]])
	query.SetEdns0(client.UDPSize, false)
	out := json.NewEncoder(os.Stdout)
	for last := ""; ; <-time.After(lookupPause) {
		query.Id = dns.Id()
		found := "none"
		if reply, _, err := client.Exchange(query, fields[0]); err == nil {
			found = told(reply)
		}
		if found == last {
			continue
		}
		last = found
		if err := out.Encode(lookup{time.Now(), found}); err != nil {
			return err
		}
	}
}

// told is a reply in a line.
func told(reply *dns.Msg) string {
	line := []string{}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			line = append(line, a.A.String())
		}
	}
	slices.Sort(line)
	line = slices.Insert(line, 0, dns.RcodeToString[reply.Rcode])
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if ede, ok := option.(*dns.EDNS0_EDE); ok && ede.InfoCode == dns.ExtendedErrorCodeStaleAnswer {
				line = append(line, "stale")
			}
		}
	}
	return strings.Join(line, " ")
}

// lookCommand begins to look a name in $NS up, directly at the DNS server of a cluster, until the script ends.
func lookCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: look CLUSTER SERVICE")
	}
	self, err := os.Executable()
	ts.Check(err)
	what := fmt.Sprintf("%s %s.%s.svc.clusterset.local. A", nameServer(args[0]), args[1], ts.Getenv("NS"))
	program, full := spell(ts, "lab", []string{"run", lookName(ts, args[0]), "--in", args[0], "--", "env", lookupsEnv + "=" + what, self})
	script.Outcome(ts, false, ts.Exec(program, full...))
	ts.Defer(func() {
		program, full := spell(ts, "lab", []string{"stop", lookName(ts, args[0])})
		ts.Check(ts.Exec(program, full...))
	})
}

func lookName(ts *testscript.TestScript, cluster string) string {
	return "look-" + ts.Getenv("NS") + "-" + cluster
}

// lookups are all that were seen in a cluster so far.
func lookups(ts *testscript.TestScript, cluster string) []lookup {
	var all []lookup
	for line := range strings.Lines(script.Tail(programLog(ts, lookName(ts, cluster)), mostLoadLog)) {
		var l lookup
		if json.Unmarshal([]byte(line), &l) == nil { // the last line may still be being written
			all = append(all, l)
		}
	}
	return all
}

func programLog(ts *testscript.TestScript, name string) string {
	return filepath.Join(filepath.Dir(ts.Getenv("KUBECONFIG")), "programs", name+".log")
}

// awaitLookup waits until what is seen in a cluster fits, and has changed to that at a time or later.
func awaitLookup(ts *testscript.TestScript, cluster string, pattern *regexp.Regexp, from time.Time) lookup {
	for deadline := time.Now().Add(script.Patience); ; <-time.After(10 * time.Millisecond) {
		all := lookups(ts, cluster)
		if n := len(all); n > 0 && !all[n-1].At.Before(from) && pattern.MatchString(all[n-1].Answer) {
			return all[n-1]
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: want %s in %s, seen:\n%s", script.Patience, pattern, cluster, script.Tail(programLog(ts, lookName(ts, cluster)), 4<<10))
		}
	}
}

// lookedCommand waits until what is seen in a cluster fits.
func lookedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: looked CLUSTER PATTERN")
	}
	awaitLookup(ts, args[0], compile(ts, args[1]), time.Time{})
}

func compile(ts *testscript.TestScript, pattern string) *regexp.Regexp {
	compiled, err := regexp.Compile(pattern)
	ts.Check(err)
	return compiled
}

// attempts is how often something is measured on a machine that has other things to do: the best counts.
const attempts = 12

// swing is a change, and the answer that it leads to.
type swing struct {
	pattern *regexp.Regexp
	command []string
	best    time.Duration
}

// swingsCommand changes something to and fro, and looks when an answer follows. The time counts from the last change that was to
// be seen in an API server before.
func swingsCommand(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("swings", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	within := flags.Duration("within", 100*time.Millisecond, "")
	ts.Check(flags.Parse(args))
	what, commands, _ := splitAt(flags.Args(), "--")
	there, back, _ := splitAt(commands, "--")
	if neg || len(what) != 3 || len(there) == 0 || len(back) == 0 {
		ts.Fatalf("usage: swings [-within DURATION] CLUSTER PATTERN PATTERN -- COMMAND... -- COMMAND...")
	}
	swings := []*swing{{pattern: compile(ts, what[1]), command: there}, {pattern: compile(ts, what[2]), command: back}}
	for range attempts {
		slow := false
		for _, s := range swings {
			took := s.measure(ts, what[0])
			if s.best == 0 || took < s.best {
				s.best = took
			}
			slow = slow || s.best > *within
		}
		if !slow {
			return
		}
	}
	ts.Fatalf("the answers came %s and %s after the changes at best; want them within %s", swings[0].best, swings[1].best, *within)
}

// measure makes the change, and returns what passes from when it is to be seen until the answer is.
func (s *swing) measure(ts *testscript.TestScript, cluster string) time.Duration {
	if before := lookups(ts, cluster); s.pattern.MatchString(before[len(before)-1].Answer) {
		ts.Fatalf("%s sees %s already", cluster, before[len(before)-1].Answer)
	}
	ctx, cancel := context.WithTimeout(context.Background(), script.Patience)
	defer cancel()
	facts := watchFacts(ctx, ts)
	requested := time.Now()
	program, full := spell(ts, s.command[0], s.command[1:])
	ts.Check(ts.Exec(program, full...))
	select {
	case <-facts.changed:
	case <-ctx.Done():
		ts.Fatalf("not within %s: nothing that concerns names is changed by %q", script.Patience, s.command)
	}
	now := awaitLookup(ts, cluster, s.pattern, requested)
	cause := lastBefore(facts.all(), now.At)
	took := max(time.Microsecond, now.At.Sub(cause.at))
	ts.Logf("%s in %s: %s after %s changed", now.Answer, cluster, took.Round(100*time.Microsecond), cause.name)
	return took
}

// restartsCommand kills the DNS server of a cluster and starts it again. It measures from then until the first answer, which has to
// fit.
func (w *world) restartsCommand(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("dns-restarts", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	within := flags.Duration("within", 200*time.Millisecond, "")
	ts.Check(flags.Parse(args))
	if neg || flags.NArg() != 2 {
		ts.Fatalf("usage: dns-restarts [-within DURATION] CLUSTER PATTERN")
	}
	pattern, best := compile(ts, flags.Arg(1)), time.Duration(0)
	for range attempts {
		took := w.restart(ts, flags.Arg(0), pattern)
		if best == 0 || took < best {
			best = took
		}
		if best <= *within {
			return
		}
	}
	ts.Fatalf("the first answer came %s after the start at best; want it within %s", best, *within)
}

func (w *world) restart(ts *testscript.TestScript, cluster string, pattern *regexp.Regexp) time.Duration {
	began := time.Now()
	program, full := spell(ts, "lab", []string{"kill", "program/" + namesName(cluster)})
	ts.Check(ts.Exec(program, full...))
	awaitLookup(ts, cluster, regexp.MustCompile("^none$"), began)
	w.namesCommand(ts, false, []string{cluster})
	started := startOf(ts, cluster)
	first := awaitLookup(ts, cluster, regexp.MustCompile("^[^n]"), started)
	for _, each := range lookups(ts, cluster) {
		if each.At.After(started) && each.Answer != "none" {
			first = each
			break
		}
	}
	took := first.At.Sub(started)
	if !pattern.MatchString(first.Answer) {
		ts.Fatalf("the first answer, after %s, is %s; want %s", took, first.Answer, pattern)
	}
	ts.Logf("the first answer came %s after the start of the process: %s", took.Round(time.Millisecond), first.Answer)
	return took
}

// startOf returns when the DNS server of a cluster was started last, of which the first line of its log tells.
func startOf(ts *testscript.TestScript, cluster string) time.Time {
	for deadline := time.Now().Add(script.Patience); ; <-time.After(10 * time.Millisecond) {
		line, _, whole := strings.Cut(script.Tail(programLog(ts, namesName(cluster)), mostLoadLog), "\n")
		nanoseconds, err := strconv.ParseInt(line, 10, 64)
		if whole && err == nil {
			return time.Unix(0, nanoseconds)
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the log of %s does not tell when it was started: %q", namesName(cluster), line)
		}
	}
}
