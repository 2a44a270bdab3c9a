package child_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
)

type command struct{ Text string }

type reply struct{ Length int }

func TestServe(t *testing.T) {
	in := strings.NewReader(`{"Text":"abc"}` + "\n" + `{"Text":""}` + "\n" + `{"Text":"x"}` + "\n")
	var out bytes.Buffer
	err := child.Serve(t.Context(), in, &out, func(_ context.Context, c command) (reply, error) {
		if c.Text == "" {
			return reply{}, errors.New("nothing to count")
		}
		return reply{len(c.Text)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"reply":{"Length":3}}` + "\n" + `{"error":"nothing to count"}` + "\n" + `{"reply":{"Length":1}}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("an error is told, and ends nothing: -want +got:\n%s", diff)
	}
}

func TestServeRefusesGarbage(t *testing.T) {
	var out bytes.Buffer
	err := child.Serve(t.Context(), strings.NewReader("Text: abc"), &out, func(context.Context, command) (reply, error) { return reply{}, nil })
	if err == nil {
		t.Error("what is no JSON was taken for a command")
	}
}

// TestMain lets the test's own program be a child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "count" {
		err := child.Serve(context.Background(), os.Stdin, os.Stdout, func(_ context.Context, c command) (reply, error) {
			if c.Text == "end" {
				_, _ = os.Stderr.WriteString("it was too much")
				os.Exit(1)
			}
			if c.Text == "" {
				return reply{}, errors.New("nothing to count")
			}
			return reply{len(c.Text)}, nil
		})
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestProcess(t *testing.T) {
	p, err := child.Start(t.Context(), "count")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	var r reply
	if err := p.Call(command{"abcd"}, &r); err != nil || r.Length != 4 {
		t.Fatalf("Call = %d, %v; want 4", r.Length, err)
	}
	if err := p.Call(command{""}, nil); err == nil || !strings.Contains(err.Error(), "nothing to count") {
		t.Errorf("Call = %v, want the child's error", err)
	}
	if err := p.Call(command{"end"}, &r); err == nil || !strings.Contains(err.Error(), "it was too much") {
		t.Errorf("Call = %v, want an error with what the child said in the end", err)
	}
}
