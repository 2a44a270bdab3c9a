// Xdsload is workload with what it takes to speak xDS: `xdsload load xds:///NAME:PORT` asks whoever the control plane
// of the file GRPC_XDS_BOOTSTRAP says. It is a program of its own because xDS takes memory, of which every pod would
// have a share.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	_ "google.golang.org/grpc/xds" // the resolver of xds targets

	"github.com/hansa-dev/hansa/e2e/node/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	status := workload.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
