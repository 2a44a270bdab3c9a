package cli

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestMain lets the scripts run both programs in this test binary.
func TestMain(m *testing.M) {
	run := func(name string) func() {
		return func() {
			streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
			p := &program{name: name, streams: streams, config: genericclioptions.NewConfigFlags(true)}
			if os.Getenv(worldVariable) != "" {
				p.dial = dialWorld(name)
			}
			os.Exit(Execute(context.Background(), p.command()))
		}
	}
	testscript.Main(m, map[string]func(){Hansa: run(Hansa), Kubefedctl: run(Kubefedctl)})
}

// TestScripts runs what the programs do without a cluster, or with one that a file describes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
