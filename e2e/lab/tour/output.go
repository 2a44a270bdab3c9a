package tour

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// waitPoll is how often a wait looks, waitTell how often it says what it is waiting for, and waitProbe bounds a look.
const (
	waitPoll  = 100 * time.Millisecond
	waitTell  = 2 * time.Second
	waitProbe = 5 * time.Second
)

// say prints a line; there is nobody to tell when that fails.
func (t Tour) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.Out, format+"\n", args...)
}

// wait repeats check until it has nothing pending any more. Every few seconds it tells what is pending. The error
// says what was pending last when patience ends.
func (t Tour) wait(ctx context.Context, patience time.Duration, what string, check func(context.Context) (pending string, err error)) error {
	began := time.Now()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	tell := time.NewTicker(waitTell)
	defer tell.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, waitProbe)
		pending, err := check(probe)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if pending == "" {
			t.say("    waited %.1f s for %s", time.Since(began).Seconds(), what)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return fmt.Errorf("waited %s for %s; still: %s", patience, what, pending)
		case <-tell.C:
			t.say("    waiting for %s (%.0f s): %s", what, time.Since(began).Seconds(), pending)
		case <-poll.C:
		}
	}
}

// indented passes lines on with some space in front of each, except those about things that were there already.
type indented struct {
	w       io.Writer
	rest    []byte // a line that is not complete yet
	skipped int
}

// Write implements io.Writer.
func (i *indented) Write(p []byte) (int, error) {
	i.rest = append(i.rest, p...)
	for {
		end := bytes.IndexByte(i.rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		line := i.rest[:end+1]
		i.rest = i.rest[end+1:]
		if bytes.HasSuffix(line, []byte(" unchanged\n")) || bytes.HasSuffix(line, []byte(" kept as it is\n")) {
			i.skipped++
			continue
		}
		if _, err := fmt.Fprintf(i.w, "      %s", line); err != nil {
			return 0, err
		}
	}
}

// finish writes what is left.
func (i *indented) finish() {
	if len(i.rest) > 0 {
		_, _ = fmt.Fprintf(i.w, "      %s\n", i.rest)
	}
	if i.skipped > 0 {
		_, _ = fmt.Fprintf(i.w, "      %d objects were there already\n", i.skipped)
	}
}
