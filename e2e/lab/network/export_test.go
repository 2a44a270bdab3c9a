package network

import (
	"context"
	"log/slog"
	"net"
	"os"
)

// Namespace is a network namespace for tests.
type Namespace = namespace

// What tests see of the rest.
const (
	MaxClusters    = maxClusters
	MaxNodes       = maxNodes
	MaxConnections = maxConnections
)

// What tests see of the rest.
var (
	NewNamespace = newNamespace
	Enter        = namespace.enter
	Close        = namespace.close
	FD           = namespace.fd
	Up           = up
	Listen       = listen
	CheckSpec    = Spec.check
)

// NamespaceOf is the namespace that a file belongs to.
func NamespaceOf(file *os.File) Namespace { return namespace{file: file} }

// Forward runs a forwarder.
func Forward(ctx context.Context, listener net.Listener, to Namespace, port int, log *slog.Logger) error {
	return newForwarder(listener, to, port, log).run(ctx)
}
