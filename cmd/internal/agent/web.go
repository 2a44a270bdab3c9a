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
	registry *prometheus.Registry
	log      logr.Logger
}

// shown is what a web server shows.
type shown struct {
	collectors []prometheus.Collector
	// check is the readiness check.
	check func(*http.Request) error
	// pages are further handlers, by pattern.
	pages map[string]http.Handler
	// listen opens the socket; nil: package net.
	listen func(addr string) (net.Listener, error)
}

// newWeb opens the address, and registers the metrics.
func newWeb(ctx context.Context, addr string, what shown, log logr.Logger) (*web, error) {
	w := &web{log: log, registry: prometheus.NewRegistry()}
	if addr == off {
		return w, nil
	}
	own := []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
	if err := w.show(append(own, what.collectors...)...); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{}))
	for pattern, page := range what.pages {
		mux.Handle(pattern, page)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := what.check(r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	listen := what.listen
	if listen == nil {
		listen = func(addr string) (net.Listener, error) {
			var config net.ListenConfig
			return config.Listen(ctx, "tcp", addr)
		}
	}
	listener, err := listen(addr)
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

// show adds metrics.
func (w *web) show(collectors ...prometheus.Collector) error {
	for _, collector := range collectors {
		if err := w.registry.Register(collector); err != nil {
			return fmt.Errorf("setting up the metrics: %w", err)
		}
	}
	return nil
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
