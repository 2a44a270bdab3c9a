// Workload is what pods of the lab run: see package workload.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hansa-dev/hansa/e2e/node/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	status := workload.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
