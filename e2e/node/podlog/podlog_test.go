package podlog_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/podlog"
)

// patience is more than any of this takes.
const patience = 10 * time.Second

const sample = `2026-01-01T00:00:01.000000000Z stdout F one
2026-01-01T00:00:02.000000000Z stderr F two
2026-01-01T00:00:03.500000000Z stdout P th
2026-01-01T00:00:03.600000000Z stdout F ree
broken line
2026-01-01T00:00:04.000000000Z stdout F
2026-01-01T00:00:05.000000000Z stdout F five  words
`

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Replace(sample, "stdout F\n", "stdout F \n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	second := func(s int) time.Time { return time.Date(2026, 1, 1, 0, 0, s, 0, time.UTC) }
	for _, test := range []struct {
		reason  string
		options podlog.Options
		want    string
	}{
		{"everything", podlog.Options{}, "one\ntwo\nthree\n\nfive  words\n"},
		{"the last lines, parts of lines counted together", podlog.Options{Tail: new(int64(3))}, "three\n\nfive  words\n"},
		{"more than there are", podlog.Options{Tail: new(int64(100))}, "one\ntwo\nthree\n\nfive  words\n"},
		{"none", podlog.Options{Tail: new(int64(0))}, ""},
		{"from a time on", podlog.Options{Since: second(4)}, "\nfive  words\n"},
		{"the last of those of one stream", podlog.Options{Stream: "stdout", Tail: new(int64(10))}, "one\nthree\n\nfive  words\n"},
		{"one stream", podlog.Options{Stream: "stderr"}, "two\n"},
		{"a number of bytes", podlog.Options{Limit: new(int64(6))}, "one\ntw"},
		{
			"with times, once for each line",
			podlog.Options{Timestamps: true, Since: second(3)},
			"2026-01-01T00:00:03.5Z three\n2026-01-01T00:00:04Z \n2026-01-01T00:00:05Z five  words\n",
		},
	} {
		var out bytes.Buffer
		if err := podlog.Read(t.Context(), path, nil, test.options, &out); err != nil || out.String() != test.want {
			t.Errorf("%s: %q, %v, want %q", test.reason, out.String(), err, test.want)
		}
	}
	if err := podlog.Read(t.Context(), path+".no", nil, podlog.Options{}, io.Discard); err == nil {
		t.Error("a log that is not there can be read")
	}
}

func TestCollectAndFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "0.log")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	log, err := podlog.Create(path, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	log.Collect("stdout", outR)
	log.Collect("stderr", errR)
	followR, followW := io.Pipe()
	go func() { _ = followW.CloseWithError(podlog.Read(t.Context(), path, log, podlog.Options{}, followW)) }()
	line := make([]byte, 6)
	for _, w := range []*io.PipeWriter{outW, errW} {
		if _, err := w.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(followR, line); err != nil || string(line) != "hello\n" {
			t.Fatalf("a follower reads %q, %v", line, err)
		}
	}
	long := strings.Repeat("x", 40_000)
	go func() {
		_, _ = outW.Write([]byte(long + "\nno newline"))
		_, _ = outW.Close(), errW.Close()
		log.End(patience)
	}()
	rest, err := io.ReadAll(followR)
	if err != nil || string(rest) != long+"\nno newline" {
		t.Errorf("following ends with %d bytes, %v, want %d", len(rest), err, len(long)+11)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "2026-01-01T00:00:00.000000000Z stdout F hello\n2026-01-01T00:00:00.000000000Z stderr F hello\n"; !strings.HasPrefix(string(data), want) {
		t.Errorf("the file begins with %.100q, want %q", data, want)
	}
	for line := range strings.Lines(string(data)) {
		if len(line) > 17_000 {
			t.Errorf("there is a line of %d bytes: long ones are to be kept in parts", len(line))
		}
	}
}

func TestFollowerLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := podlog.Create(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer log.End(patience)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := podlog.Read(ctx, path, log, podlog.Options{}, io.Discard); err != nil {
		t.Errorf("a follower that leaves gets %v", err)
	}
}
