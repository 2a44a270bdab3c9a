package scenarios_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/script"
)

// sideBySide is how many of the parallel scripts run at once. They mostly wait, so it is more than there are cores.
const sideBySide = "6"

var keep = flag.String("keep-lab", "", "use the lab of this name, made if need be, and leave it running: for work on scripts")

// world is what all scripts share; TestMain makes it.
var world *fixture

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if !isSet("test.parallel") {
		_ = flag.Set("test.parallel", sideBySide) // the flag exists in every test binary
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	world, err = newFixture(ctx, *keep)
	if err == nil {
		err = world.up(ctx)
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if problems := world.down(err != nil || code != 0); err != nil || problems != nil {
		world.say("%v", firstOf(err, problems))
		code = 1
	}
	return code
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func TestParallel(t *testing.T) {
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, world.params("testdata/parallel", nil))
	})
}

func TestSerial(t *testing.T) {
	params := world.params("testdata/serial", func(ctx context.Context) error { return world.mend(ctx) })
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	testscript.RunT(script.Serial{T: t}, params)
}
