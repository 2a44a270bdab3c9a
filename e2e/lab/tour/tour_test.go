package tour_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/tour"
)

// programs builds what the tour needs into a folder of the test.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", bin, "github.com/hansa-dev/hansa/cmd/hansa").CombinedOutput()
	if err != nil {
		t.Fatalf("building hansa: %v\n%s", err, out)
	}
	source, err := lab.FindSource()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := lab.FindBinary(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Build(t.Context(), t.Output()); err != nil {
		t.Fatal(err)
	}
	if err := binary.Install(bin, "kubectl"); err != nil {
		t.Fatal(err)
	}
	return bin
}

// rows are the lines of the table, with their columns joined by one space.
func rows(output string) []string {
	_, table, _ := strings.Cut(output, "\nKIND ")
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for _, line := range strings.Split(table, "\n")[1:] {
		rows = append(rows, regexp.MustCompile(` +`).ReplaceAllString(line, " "))
	}
	return rows
}

// TestTour takes the tour twice, with the hub program killed in between.
func TestTour(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tour")
	l, err := lab.New(lab.Options{Name: "tour", Dir: dir, Members: lab.DefaultMembers, Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	want := []string{
		"Namespace hansa-sample m1 -",
		"Namespace hansa-sample m2 -",
		"ConfigMap web-settings m1 data greeting=hello",
		"ConfigMap web-settings m2 data foo=bar",
		"Secret web-password m1 password (13 bytes)",
		"Secret web-password m2 no password",
		"ServiceAccount web m1 -",
		"ServiceAccount web m2 -",
		"Service web m1 -",
		"Service web m2 -",
		"Deployment web m1 replicas 3, image nginx, label track=stable, no label color, label team=shop",
		"Deployment web m2 replicas 5, image nginx:1.17.0-alpine, label track=canary, label color=blue, no label team",
		"Job warm-up m1 parallelism 1",
		"Job warm-up m2 parallelism 2",
	}
	bin := programs(t)
	for _, reason := range []string{"the first time", "again, without a hub program", "again, with everything running"} {
		var out strings.Builder
		if err := (tour.Tour{Lab: l, Bin: bin, Out: &out}).Run(t.Context()); err != nil {
			t.Fatalf("%s: %v\n%s", reason, err, out.String())
		}
		if diff := cmp.Diff(want, rows(out.String())); diff != "" {
			t.Errorf("%s: table: -want +got:\n%s", reason, diff)
		}
		if reason == "the first time" {
			if err := l.Kill(t.Context(), "program/"+tour.Program); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTourNeedsItsPrograms(t *testing.T) {
	l, err := lab.New(lab.Options{Dir: filepath.Join(t.TempDir(), "tour")})
	if err != nil {
		t.Fatal(err)
	}
	err = tour.Tour{Lab: l, Bin: t.TempDir(), Out: t.Output()}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a tour without programs: %v, want advice to build them", err)
	}
}
