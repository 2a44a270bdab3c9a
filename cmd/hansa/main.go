// Command hansa federates Kubernetes clusters: the hub, and the commands to use it with.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
	"github.com/hansa-dev/hansa/cmd/internal/cli"
	"github.com/hansa-dev/hansa/cmd/internal/hub"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	root := cli.NewCommand(cli.Hansa, streams)
	root.AddCommand(hub.NewCommand(streams), agent.NewGatewayCommand(streams), agent.NewCommand(streams))
	return cli.Execute(ctx, root)
}
