package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

const (
	// headerTimeout bounds what a client of the web server may take to ask.
	headerTimeout = 5 * time.Second
	// webDrain is how long those who ask the web server are given to be answered when it stops.
	webDrain = time.Second
)

// web serves metrics, probes and the tap.
type web struct {
	listener net.Listener // nil: turned off
	server   *http.Server
	log      logr.Logger
}

// newWeb opens the address, and registers the metrics.
func newWeb(ctx context.Context, addr string, server *dns.Server, log logr.Logger, more ...prometheus.Collector) (*web, error) {
	w := &web{log: log}
	if addr == off {
		return w, nil
	}
	registry := prometheus.NewRegistry()
	all := append(server.Collectors(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, collector := range append(all, more...) {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("setting up the metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("GET "+dns.TapPath, server.Tap())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := server.Check(r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for metrics and probes (--metrics-addr; \"0\" turns it off): %w", err)
	}
	w.listener = listener
	w.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx }, // so that taps end
	}
	return w, nil
}

// run serves until the context of newWeb ends.
func (w *web) run(ctx context.Context) error {
	if w.listener == nil {
		<-ctx.Done()
		return nil
	}
	w.log.Info("Serving metrics and probes", "address", w.listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(w.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving metrics and probes at %s: %w", w.listener.Addr(), err)
	case <-ctx.Done():
	}
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), webDrain)
	defer cancel()
	if err := w.server.Shutdown(over); err != nil {
		_ = w.server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics and probes at %s: %w", w.listener.Addr(), err)
	}
	return nil
}
