// Package script holds what the txtar scripts of several packages share: commands that repeat others until something
// holds, and a runner for scripts that cannot run side by side.
package script

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Patience is how long Eventually waits. Machines are shared; scripts make no statements about time unless they say so.
const Patience = 30 * time.Second

// The pauses between two attempts: short at first, then longer, since every attempt is a program run.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Command is a command of testscript.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Spell turns a command of a script into the program and its arguments.
type Spell func(ts *testscript.TestScript, name string, args []string) (program string, full []string)

// Outcome ends a script whose command did not end as the script says.
func Outcome(ts *testscript.TestScript, neg bool, err error) {
	if err != nil && !neg {
		ts.Fatalf("%v", err)
	}
	if err == nil && neg {
		ts.Fatalf("unexpected success")
	}
}

// Eventually repeats a command until it succeeds and its output fits the pattern:
//
//	eventually [-t DURATION] [!] COMMAND... [-- PATTERN]
func Eventually(spell Spell) Command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		limit := Patience
		if len(args) > 1 && args[0] == "-t" {
			var err error
			limit, err = time.ParseDuration(args[1])
			ts.Check(err)
			args = args[2:]
		}
		var pattern *regexp.Regexp
		if i := len(args) - 2; i > 0 && args[i] == "--" {
			var err error
			pattern, err = regexp.Compile("(?m)" + args[i+1])
			ts.Check(err)
			args = args[:i]
		}
		if neg || len(args) == 0 {
			ts.Fatalf("usage: eventually [-t DURATION] [!] COMMAND... [-- PATTERN]")
		}
		wanted := true
		if args[0] == "!" {
			wanted, args = false, args[1:]
		}
		program, full := spell(ts, args[0], args[1:])
		repeat(ts, limit, wanted, pattern, program, full)
	}
}

func repeat(ts *testscript.TestScript, limit time.Duration, wanted bool, pattern *regexp.Regexp, program string, args []string) {
	deadline := time.Now().Add(limit)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := ts.Exec(program, args...)
		output := strings.TrimSpace(ts.ReadFile("stdout"))
		if (err == nil) == wanted && (pattern == nil || pattern.MatchString(output)) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %s %s\nwanted: %s\nlast output: %s\nlast error: %v", limit, program, strings.Join(args, " "), pattern, output, err)
		}
		<-time.After(pause)
	}
}

// Within is Eventually where the time is a part of the story:
//
//	within DURATION [!] COMMAND... [-- PATTERN]
func Within(spell Spell) Command {
	eventually := Eventually(spell)
	return func(ts *testscript.TestScript, neg bool, args []string) {
		eventually(ts, neg, append([]string{"-t"}, args...))
	}
}

// OnFailure has a script that fails be followed by what report returns.
func OnFailure(env *testscript.Env, report func() string) {
	env.Defer(func() {
		if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() {
			env.T().Log(report())
		}
	})
}

// Tail returns the last lines of a file, at most so many bytes, or why there are none.
func Tail(path string, most int64) string {
	file, err := os.Open(path) //nolint:gosec // G304: a log that a script names
	if err != nil {
		return err.Error() + "\n"
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err.Error() + "\n"
	}
	start := max(0, info.Size()-most)
	end, err := io.ReadAll(io.NewSectionReader(file, start, most))
	if err != nil {
		return err.Error() + "\n"
	}
	if _, whole, ok := strings.Cut(string(end), "\n"); ok && start > 0 {
		return whole
	}
	return string(end)
}

// Serial is a test whose scripts do not run in parallel.
type Serial struct{ *testing.T }

// Parallel does nothing.
func (Serial) Parallel() {}

// Skip implements testscript.T.
func (t Serial) Skip(args ...any) { t.T.Skip(args...) }

// Fatal implements testscript.T.
func (t Serial) Fatal(args ...any) { t.T.Fatal(args...) }

// Log implements testscript.T.
func (t Serial) Log(args ...any) { t.T.Log(args...) }

// FailNow implements testscript.T.
func (t Serial) FailNow() { t.T.FailNow() }

// Verbose implements testscript.T.
func (t Serial) Verbose() bool { return testing.Verbose() }

// Run implements testscript.T.
func (t Serial) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(Serial{t}) })
}
