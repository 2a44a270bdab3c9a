package echo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// Config says what a server is and where it listens. An empty address means that the protocol is not served.
type Config struct {
	Identity answer.Identity

	HTTP  string
	HTTPS string
	TCP   string
	UDP   string
	GRPC  string
	GRPCS string

	CertFile string // PEM; with KeyFile needed for HTTPS and GRPCS
	KeyFile  string

	Drain      time.Duration // how long to go on serving, not ready, after Run's context has ended
	Grace      time.Duration // how long requests may take to finish after that
	MaxWaiting int           // requests that delay or hang at a time

	Log *slog.Logger // gets what the server does; requests are not logged
}

// Server is a test server whose addresses are taken.
type Server struct {
	config Config
	state  *state
	fronts []front
}

// front serves one protocol.
type front interface {
	// protocol is one of answer.Protocols.
	protocol() string
	addr() net.Addr
	// serve blocks until shutdown or until it cannot go on. It returns nil after shutdown.
	serve() error
	// shutdown refuses new connections, waits for requests under way until ctx ends, and closes the rest.
	shutdown(ctx context.Context)
}

// opener takes the address of a protocol.
type opener struct {
	protocol string
	address  string
	open     func(s *state, address string, secure *tls.Config) (front, error)
}

// Listen takes all addresses of the configuration, or none.
func Listen(config Config) (*Server, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	secure, err := config.tls()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, state: newState(config)}
	for _, o := range []opener{
		{answer.HTTP, config.HTTP, openHTTP},
		{answer.HTTPS, config.HTTPS, openHTTP},
		{answer.TCP, config.TCP, openTCP},
		{answer.UDP, config.UDP, openUDP},
		{answer.GRPC, config.GRPC, openGRPC},
		{answer.GRPCS, config.GRPCS, openGRPC},
	} {
		if o.address == "" {
			continue
		}
		var with *tls.Config
		if o.protocol == answer.HTTPS || o.protocol == answer.GRPCS {
			with = secure
		}
		f, err := o.open(s.state, o.address, with)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listening for %s: %w", o.protocol, err)
		}
		s.fronts = append(s.fronts, f)
	}
	if len(s.fronts) == 0 {
		return nil, errors.New("no protocol has an address: there is nothing to serve")
	}
	return s, nil
}

// tls returns nil if nothing is to be encrypted.
func (c Config) tls() (*tls.Config, error) {
	if c.HTTPS == "" && c.GRPCS == "" {
		return nil, nil
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, errors.New("https and grpcs need a certificate and its key: give both files")
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

// Addr returns where a protocol is served, and nil if it is not.
func (s *Server) Addr(protocol string) net.Addr {
	for _, f := range s.fronts {
		if f.protocol() == protocol {
			return f.addr()
		}
	}
	return nil
}

// Run serves until ctx ends: then the server says that it is not ready, goes on for Config.Drain, and shuts down. It
// returns nil after that, and an error if a protocol cannot be served any longer. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	for _, f := range s.fronts {
		s.config.Log.Info("serving", "protocol", f.protocol(), "address", f.addr().String())
		group.Go(func() error {
			if err := f.serve(); err != nil {
				return fmt.Errorf("serving %s on %s: %w", f.protocol(), f.addr(), err)
			}
			return nil
		})
	}
	select {
	case <-ctx.Done():
		s.drain(failed)
	case <-failed.Done():
	}
	s.close()
	return group.Wait()
}

// drain is what happens between the signal and the shutdown.
func (s *Server) drain(failed context.Context) {
	s.state.leave()
	s.config.Log.Info("not ready any more", "drain", s.config.Drain.String())
	timer := time.NewTimer(s.config.Drain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.state.released:
	case <-failed.Done():
	}
}

// close shuts all protocols down, at the same time.
func (s *Server) close() {
	s.state.release()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Grace)
	defer cancel()
	var group errgroup.Group
	for _, f := range s.fronts {
		group.Go(func() error {
			f.shutdown(ctx)
			return nil
		})
	}
	_ = group.Wait() // shutdowns do not fail
}
