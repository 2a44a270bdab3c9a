package lab_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// source writes a module that looks like that of the Kubernetes binary and builds in a second. The cache lies in a
// folder of the test, but not the go command's own.
func source(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(out)))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":     "module tiny\n\ngo 1.26\n\nrequire k8s.io/kubernetes v1.36.3\n\nreplace k8s.io/kubernetes => ./k8s\n",
		"main.go":    program,
		"k8s/go.mod": "module k8s.io/kubernetes\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const nameItself = `package main

import (
	"os"
	"path/filepath"
)

func main() { println(filepath.Base(os.Args[0])) }
`

func find(t *testing.T, source string) lab.Binary {
	t.Helper()
	b, err := lab.FindBinary(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inCache lists what lies in the folder of a binary.
func inCache(t *testing.T, b lab.Binary) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.Path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestBuildOnceByTwo(t *testing.T) {
	b := find(t, source(t, nameItself))
	if b.Version != "v1.36.3" {
		t.Errorf("version %q, want v1.36.3", b.Version)
	}
	var wg sync.WaitGroup
	var outs [2]bytes.Buffer
	for i := range outs {
		wg.Go(func() {
			if err := b.Build(t.Context(), &outs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.Count(outs[0].String()+outs[1].String(), "built "); got != 1 {
		t.Errorf("two builders built %d times:\n%s\n%s", got, &outs[0], &outs[1])
	}
	if diff := cmp.Diff([]string{"kubernetes"}, inCache(t, b)); diff != "" {
		t.Errorf("in the cache: -want +got:\n%s", diff)
	}

	dir := filepath.Join(t.TempDir(), "bin")
	for range 2 { // the second time it is there already
		if err := b.Install(dir, "kubectl"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(b.Path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(dir, "kubectl")).CombinedOutput()
	if err != nil || string(out) != "kubectl\n" {
		t.Errorf("the installed program, with the cache gone, says %q, %v; want kubectl", out, err)
	}
}

func TestBuildFails(t *testing.T) {
	b := find(t, source(t, "package main\n\nfunc main() { nonsense() }\n"))
	err := b.Build(t.Context(), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("Build: %v, want the compiler's message", err)
	}
	if got := inCache(t, b); len(got) > 0 {
		t.Errorf("a failed build left %v", got)
	}
}

func TestBuildIsCancelled(t *testing.T) {
	b := find(t, source(t, nameItself))
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("too slow")
	cancel(reason)
	if err := b.Build(ctx, &bytes.Buffer{}); !errors.Is(err, reason) {
		t.Errorf("Build: %v, want the reason why it was cancelled", err)
	}
	if got := inCache(t, b); len(got) > 0 {
		t.Errorf("a cancelled build left %v", got)
	}
}

func TestFindBinaryByContent(t *testing.T) {
	dir := source(t, nameItself)
	first := find(t, dir)
	change := func(name, content string) lab.Binary {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return find(t, dir)
	}
	if got := change("README.md", "text"); got.Path != first.Path {
		t.Errorf("a text file changes the binary's place from %s to %s", first.Path, got.Path)
	}
	if got := change("main_test.go", "package main"); got.Path != first.Path {
		t.Errorf("a test changes the binary's place from %s to %s", first.Path, got.Path)
	}
	if got := change("go.sum", "\n"); got.Path == first.Path {
		t.Error("go.sum does not change the binary's place")
	}
	second := find(t, dir)
	if got := change("main.go", nameItself+"\n"); got.Path == second.Path {
		t.Error("a source file does not change the binary's place")
	}
}

func TestFindSource(t *testing.T) {
	got, err := lab.FindSource()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(got, "main.go")); err != nil {
		t.Errorf("around this test the source is %s: %v", got, err)
	}
	nowhere := t.TempDir()
	if _, err := lab.FindSource(nowhere); !errors.Is(err, lab.ErrNoSource) || !strings.Contains(err.Error(), nowhere) {
		t.Errorf("outside of a checkout: %v, want ErrNoSource with the place", err)
	}
}
