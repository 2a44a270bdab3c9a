package traffic_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// labPrefix begins the names of the labs of this package; the process that owns them is the rest.
const labPrefix = "traffic-"

// world is the lab that scripts share, and the programs that all of them run.
type world struct {
	dir string // programs
	lab string // name of the shared lab
}

var shared world

func TestMain(m *testing.M) {
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
	if err := shared.clean(context.WithoutCancel(ctx)); err != nil {
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
	if err := os.Chmod(w.dir, 0o755); err != nil { //nolint:gosec // G302: that is what it is for
		return fmt.Errorf("opening the folder for programs: %w", err)
	}
	if err := lab.Sweep(ctx, labPrefix); err != nil {
		return err
	}
	w.lab = lab.OwnName(labPrefix)
	source, err := lab.FindSource()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", w.bin("")+"/", "./cmd/hansa-lab", "./cmd/hansa") //nolint:gosec // G204: a path of our own
	cmd.Dir = filepath.Dir(filepath.Dir(source))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	for _, args := range [][]string{{"install-kubectl", w.bin("")}, {"--name", w.lab, "up", "--traffic", "--members", "2", "--nodes", "2"}} {
		cmd := exec.CommandContext(ctx, w.bin("hansa-lab"), args...) //nolint:gosec // G204: our own program
		cmd.Dir, cmd.Stdout, cmd.Stderr = source, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("hansa-lab %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

func (w *world) clean(ctx context.Context) error {
	l, err := lab.New(lab.Options{Name: w.lab})
	if err != nil {
		return err
	}
	if _, err := l.Down(ctx); err != nil {
		return err
	}
	return os.RemoveAll(w.dir)
}

func (w *world) bin(name string) string { return filepath.Join(w.dir, "bin", name) }

func TestShared(t *testing.T) {
	testscript.Run(t, shared.params("testdata/shared", func(string) string { return shared.lab }))
}

func TestAlone(t *testing.T) {
	number := 0
	params := shared.params("testdata/alone", func(string) string {
		number++
		return fmt.Sprintf("%s-%d", shared.lab, number)
	})
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	testscript.RunT(script.Serial{T: t}, params)
}

// params are those of the scripts in a folder; lab names the lab of a script.
func (w *world) params(dir string, lab func(script string) string) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			env.Vars = append(env.Vars,
				"PATH="+w.bin("")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
				"HOME="+os.Getenv("HOME"), "XDG_CACHE_HOME="+os.Getenv("XDG_CACHE_HOME"), "XDG_STATE_HOME="+os.Getenv("XDG_STATE_HOME"),
				"LAB="+lab(name), "NS="+name, "SOURCE="+source(), "BIN="+w.bin(""))
			return nil
		},
		Cmds:               w.commands(),
		RequireUniqueNames: true,
	}
}

// source is the checkout's folder that the lab's programs are built from.
func source() string {
	found, err := lab.FindSource()
	if err != nil {
		return ""
	}
	return found
}
