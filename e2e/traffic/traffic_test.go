package traffic_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// labPrefix begins the name of the lab that scripts share; the process that owns it is the rest. Scripts that make labs
// have a number in between.
const labPrefix = "traffic-"

// mostAlone bounds the number of scripts that make labs.
const mostAlone = 32

// alone is the name of the lab of the n-th script that makes one.
func alone(n int) string { return lab.OwnName(fmt.Sprintf("%s%d-", labPrefix, n)) }

// world is the lab that scripts share, and the programs that all of them run.
type world struct {
	dir      string // programs
	lab      string // name of the shared lab
	source   string // the sources of what labs run, readable for everybody
	workload string // program that Pods run, for use outside of them
	xdsload  string // the same with xDS
}

var shared world

func TestMain(m *testing.M) {
	if what := os.Getenv(lookupsEnv); what != "" {
		_, _ = fmt.Fprintln(os.Stderr, followName(what))
		os.Exit(1)
	}
	if what := os.Getenv(halfEnv); what != "" {
		if err := halfClose(what, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if os.Getenv("LAB_TRAFFIC") == "off" {
		_, _ = fmt.Fprintln(os.Stderr, "LAB_TRAFFIC=off: no test of traffic is run")
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := shared.prepare(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.clean(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// prepare builds the programs. The folder can be read by every user, for some scripts run as nobody.
func (w *world) prepare(ctx context.Context) error {
	var err error
	if w.dir, err = os.MkdirTemp("", labPrefix); err != nil {
		return fmt.Errorf("making a folder for programs: %w", err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return fmt.Errorf("opening the folder for programs: %w", err)
	}
	for n := range mostAlone + 1 {
		if err := errors.Join(lab.Sweep(ctx, labPrefix), lab.Sweep(ctx, fmt.Sprintf("%s%d-", labPrefix, n))); err != nil {
			return err
		}
	}
	w.lab = lab.OwnName(labPrefix)
	source, err := lab.FindSource()
	if err != nil {
		return err
	}
	if err := w.share(ctx, source); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", w.bin("")+"/", "./cmd/hansa-lab", "./cmd/hansa")
	cmd.Dir = filepath.Dir(filepath.Dir(source))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return w.run(ctx, "install-kubectl", w.bin(""))
}

// run runs hansa-lab.
func (w *world) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, w.bin("hansa-lab"), append([]string{"--source=" + w.source}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hansa-lab %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// share builds what labs run, and puts it and its sources where a user without rights finds them too.
func (w *world) share(ctx context.Context, source string) error {
	w.source = filepath.Join(w.dir, "e2e", filepath.Base(source))
	for _, find := range []func(context.Context, string) (lab.Binary, error){lab.FindBinary, lab.FindNode, lab.FindDNS, lab.FindKwok} {
		b, err := find(ctx, source)
		if err != nil {
			return err
		}
		if err := b.Build(ctx, os.Stderr); err != nil {
			return err
		}
		if err := os.CopyFS(filepath.Join(w.dir, "e2e", filepath.Base(b.Source)), os.DirFS(b.Source)); err != nil {
			return fmt.Errorf("copying sources: %w", err)
		}
		for _, program := range b.Programs() {
			if err := b.Install(filepath.Join(w.cache(), "hansa", filepath.Base(filepath.Dir(b.Path))), program); err != nil {
				return err
			}
		}
		if slices.Contains(b.Programs(), "workload") {
			w.workload, w.xdsload = b.Program("workload"), b.Program("xdsload")
		}
	}
	return openForAll(w.dir)
}

// openForAll lets everybody read and enter what lies in a folder.
func openForAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm() | 0o444 | info.Mode().Perm()&0o100>>6 | info.Mode().Perm()&0o100>>3; mode != info.Mode().Perm() {
			return os.Chmod(path, mode)
		}
		return nil
	})
}

func (w *world) cache() string { return filepath.Join(w.dir, "cache") }

func (w *world) clean() error { return os.RemoveAll(w.dir) }

func (w *world) bin(name string) string { return filepath.Join(w.dir, "bin", name) }

func TestShared(t *testing.T) {
	if err := shared.run(t.Context(), "--name="+shared.lab, "up", "--traffic", "--members=2", "--nodes=2"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.run(context.Background(), "--name="+shared.lab, "down"); err != nil {
			t.Error(err)
		}
	})
	t.Run("scripts", func(t *testing.T) { // ends when all of them have
		testscript.Run(t, shared.params("testdata/shared", func(string) string { return shared.lab }))
	})
}

func TestAlone(t *testing.T) {
	number := 0
	params := shared.params("testdata/alone", func(string) string {
		number++
		return alone(number)
	})
	params.Setup = takingDown(params.Setup)
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	testscript.RunT(script.Serial{T: t}, params)
}

// takingDown is a setup after which the lab of a script goes down with the script, whatever becomes of that.
func takingDown(setup func(*testscript.Env) error) func(*testscript.Env) error {
	return func(env *testscript.Env) error {
		env.Defer(func() {
			if err := shared.run(context.Background(), "--name="+env.Getenv("LAB"), "down"); err != nil {
				env.T().Log(err)
			}
		})
		return setup(env) // what it defers comes before
	}
}

// params are those of the scripts in a folder; labOf names the lab of a script.
func (w *world) params(dir string, labOf func(script string) string) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			l, err := lab.New(lab.Options{Name: labOf(name)})
			if err != nil {
				return err
			}
			env.Vars = append(env.Vars,
				"LAB="+l.Name(), "KUBECONFIG="+l.Kubeconfig(), "NS="+name, "SOURCE="+w.source, "BIN="+w.bin(""), "CACHE="+w.cache(), "WORKLOAD="+w.workload, "XDSLOAD="+w.xdsload,
				"PATH="+w.bin("")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
				"HOME="+os.Getenv("HOME"), "XDG_CACHE_HOME="+os.Getenv("XDG_CACHE_HOME"), "XDG_STATE_HOME="+os.Getenv("XDG_STATE_HOME"))
			script.OnFailure(env, func() string { return w.diagnosis(env) })
			return nil
		},
		Cmds:               w.commands(),
		RequireUniqueNames: true,
	}
}
