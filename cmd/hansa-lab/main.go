// Command hansa-lab runs real Kubernetes control planes on this machine, to try, test and measure Hansa with.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/lab"
)

func main() {
	os.Exit(run())
}

// run ends the running command properly when the terminal goes away or asks for it, and returns the exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	err := lab.NewCommand(streams).ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "hansa-lab: %v\n", err)
	}
	return lab.ExitCode(err)
}
