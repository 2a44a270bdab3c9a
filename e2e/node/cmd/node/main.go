// Node is a node of the lab: it runs the pods that are assigned to it as processes, in namespaces of their own. The
// lab starts it in the node's network namespace:
//
//	node --config FILE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/hansa-dev/hansa/e2e/node/boot"
	"github.com/hansa-dev/hansa/e2e/node/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run() error {
	file := flag.String("config", "", "the node's configuration, a JSON file")
	inside := flag.Bool("inside", false, "the process is in the node's own namespaces already")
	flag.Parse()
	if *file == "" || flag.NArg() > 0 {
		return errors.New("usage: node --config FILE")
	}
	c, err := config.Load(*file)
	if err != nil {
		return err
	}
	if !*inside {
		return boot.Enter(c, *file)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return boot.Run(ctx, c, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}
