package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
)

// parts are what runs together.
type parts struct {
	server *dns.Server
	// feed keeps what the server answers from in step, until its context ends; nil: nothing does.
	feed       func(context.Context) error
	collectors []prometheus.Collector
	log        logr.Logger
}

// serve runs all parts until ctx ends, or one fails. The feed goes last: it saves what is known.
func (o *Options) serve(ctx context.Context, p parts) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web, err := newWeb(ctx, o.MetricsAddr, shown{
		collectors: append(p.server.Collectors(), p.collectors...), check: p.server.Check,
		pages: map[string]http.Handler{"GET " + dns.TapPath: p.server.Tap()},
	}, p.log)
	if err != nil {
		return errors.Join(err, p.server.Close())
	}
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	run := func(part func(context.Context) error) {
		wg.Go(func() {
			defer cancel() // none runs without the others
			failed <- part(ctx)
		})
	}
	run(p.server.Run)
	run(web.run)
	if p.feed != nil {
		run(p.feed)
	}
	p.log.Info("Started", "took", time.Since(o.started).String())
	wg.Wait()
	close(failed)
	for each := range failed {
		err = errors.Join(err, each)
	}
	if err == nil {
		p.log.Info("Stopped")
	}
	return err
}
