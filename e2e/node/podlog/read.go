package podlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options say which part of a log is wanted, as for `kubectl logs`.
type Options struct {
	Tail       *int64    // the last lines only
	Since      time.Time // nothing before
	Limit      *int64    // bytes of output
	Timestamps bool      // before each line
	Stream     string    // "stdout" or "stderr" only
}

// entry is a line of the file.
type entry struct {
	at      time.Time
	stream  string
	partial bool
	text    []byte
}

// parseEntry takes a line of the file apart.
func parseEntry(line []byte) (entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return entry{}, fmt.Errorf("log line %q has not four fields", line)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return entry{}, fmt.Errorf("time of a log line: %w", err)
	}
	return entry{at: at, stream: string(stream), partial: string(tag) == "P", text: text}, nil
}

func (o Options) wants(e entry) bool {
	return !e.at.Before(o.Since) && (o.Stream == "" || o.Stream == e.stream)
}

// Read writes the log in a file to out. If live is the log of that file, new lines follow until it ends or ctx does.
func Read(ctx context.Context, path string, live *Log, o Options, out io.Writer) error {
	file, err := os.Open(path) //nolint:gosec // G304: that is its purpose
	if err != nil {
		return fmt.Errorf("reading a log: %w", err)
	}
	defer func() { _ = file.Close() }()
	r := &reader{options: o, out: out}
	if o.Limit != nil {
		r.out = &limited{out: out, left: *o.Limit}
	}
	if o.Tail != nil {
		if r.skip, err = beforeTail(file, o); err != nil {
			return err
		}
	}
	err = r.follow(ctx, file, live)
	if errors.Is(err, errLimit) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// beforeTail counts the lines that come before the last ones, and rewinds the file.
func beforeTail(file *os.File, o Options) (int64, error) {
	var lines int64
	scanner := &reader{options: o, out: io.Discard, whole: func() { lines++ }}
	if err := scanner.copyLines(bufio.NewReaderSize(file, 2*maxLine)); err != nil {
		return 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("reading a log: %w", err)
	}
	return max(0, lines-*o.Tail), nil
}

// reader writes out lines of a log.
type reader struct {
	options Options
	out     io.Writer
	skip    int64  // lines that are not wanted
	whole   func() // called after each line
	within  bool   // the last entry was a part of a line that goes on
	rest    []byte // of an entry that is still being written
}

func (r *reader) follow(ctx context.Context, file io.Reader, live *Log) error {
	lines := bufio.NewReaderSize(file, 2*maxLine)
	for {
		var changed <-chan struct{}
		ended := true
		if live != nil {
			changed, ended = live.more() // before reading, so that nothing is missed
		}
		if err := r.copyLines(lines); err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// copyLines goes on to the present end of the file.
func (r *reader) copyLines(lines *bufio.Reader) error {
	for {
		line, err := lines.ReadBytes('\n')
		r.rest = append(r.rest, line...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a log: %w", err)
		}
		e, parseErr := parseEntry(bytes.TrimSuffix(r.rest, []byte("\n")))
		r.rest = nil
		if parseErr != nil {
			continue // a crash may have cut it short
		}
		if err := r.write(e); err != nil {
			return err
		}
	}
}

func (r *reader) write(e entry) error {
	if !r.options.wants(e) {
		return nil
	}
	if r.skip == 0 {
		var text []byte
		if r.options.Timestamps && !r.within {
			text = append(e.at.AppendFormat(text, time.RFC3339Nano), ' ')
		}
		text = append(text, e.text...)
		if !e.partial {
			text = append(text, '\n')
		}
		if _, err := r.out.Write(text); err != nil {
			return err
		}
	}
	r.within = e.partial
	if e.partial {
		return nil
	}
	r.skip = max(0, r.skip-1)
	if r.whole != nil {
		r.whole()
	}
	return nil
}

// errLimit ends the reading of a log when enough has been written.
var errLimit = errors.New("the limit is reached")

type limited struct {
	out  io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	cut := int64(len(p)) > l.left
	if cut {
		p = p[:l.left]
	}
	n, err := l.out.Write(p)
	l.left -= int64(n)
	if err == nil && cut {
		err = errLimit
	}
	return n, err
}
