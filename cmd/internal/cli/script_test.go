package cli

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestMain lets the scripts run both programs in this test binary.
func TestMain(m *testing.M) {
	run := func(name string) func() {
		return func() {
			streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
			os.Exit(Execute(context.Background(), NewCommand(name, streams)))
		}
	}
	testscript.Main(m, map[string]func(){Hansa: run(Hansa), Kubefedctl: run(Kubefedctl)})
}

// TestScripts runs what the programs do without a cluster.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
