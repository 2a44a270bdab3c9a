package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan"
)

// Run makes the namespaces of spec, wires them and serves until ctx ends. The calling process is root, perhaps of a user
// namespace only, and in a network namespace that nobody else uses; that one becomes the WAN. Listener i belongs to
// cluster i of spec; Run closes them. When the process ends, so do all namespaces that no other process is in.
func Run(ctx context.Context, spec Spec, listeners []net.Listener, log *slog.Logger) error {
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	if err := spec.check(len(listeners)); err != nil {
		return err
	}
	began := time.Now()
	wires, err := wire(spec)
	if err != nil {
		return err
	}
	defer wires.close()
	between, err := wan.New(wires.ports)
	if err != nil {
		return err
	}
	socket, err := listen(ctx, spec.Socket)
	if err != nil {
		return errors.Join(err, between.Close())
	}
	defer func() { _ = os.Remove(spec.Socket) }()
	log.Info("the networks are there", "namespaces", len(wires.spaces), "took", time.Since(began).Round(time.Millisecond))

	tasks := []func(context.Context) error{between.Run}
	for i, c := range spec.Clusters {
		tasks = append(tasks, newForwarder(listeners[i], wires.spaces[c.Name], c.Port, log).run)
	}
	c := &control{flat: spec.Flat, spaces: wires.spaces, wan: between, log: log}
	tasks = append(tasks, func(ctx context.Context) error { return serve(ctx, socket, c.handler()) })
	return together(ctx, tasks)
}

// together runs tasks until ctx ends or one of them fails, and waits for all.
func together(ctx context.Context, tasks []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(tasks))
	var wait sync.WaitGroup
	for i, task := range tasks {
		wait.Go(func() {
			defer cancel()
			errs[i] = task(ctx)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	return nil
}
