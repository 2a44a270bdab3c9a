package enrolment

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

const (
	// DefaultPort is that of the listener for strangers.
	DefaultPort = 15012

	// maxMessage and maxHeader are the most that a stranger may send at once, in bytes. The token of a ServiceAccount has
	// some 1000.
	maxMessage = 64 << 10
	maxHeader  = 16 << 10
	// maxStreams is how many calls there may be on one connection at a time.
	maxStreams = 4
	// idle and lifetime are how long a connection may be open with nothing done, and at all.
	idle     = 15 * time.Second
	lifetime = time.Minute
	// drain is how long calls may go on when the hub ends.
	drain = 2 * time.Second
)

// Serve gives first certificates to whoever connects to a listener, until ctx ends. config is that of a listener that asks
// for no client certificate (identity.Server's AnonymousTLSConfig). refused is told of handshakes that failed; it may be
// nil. The listener is closed.
func (s *Server) Serve(ctx context.Context, listener net.Listener, config *tls.Config, refused func(error)) error {
	if refused == nil {
		refused = func(error) {}
	}
	limits := s.options.Limits
	server := grpc.NewServer(
		grpc.Creds(identity.Credentials(config, refused)),
		grpc.ConnectionTimeout(limits.Timeout),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idle, MaxConnectionAge: lifetime, MaxConnectionAgeGrace: limits.Timeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: idle}),
	)
	enrolmentpb.RegisterEnrolmentServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(newLimited(listener, limits.Connections, limits.PerSource)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving enrolment at %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	stop := time.AfterFunc(drain, server.Stop)
	defer stop.Stop()
	server.GracefulStop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
		return fmt.Errorf("ending enrolment at %s: %w", listener.Addr(), err)
	}
	return nil
}
