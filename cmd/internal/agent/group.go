package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group runs parts that end together: when one fails, or all are told to.
type group struct {
	ctx    context.Context //nolint:containedctx // that of the parts
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

func newGroup(ctx context.Context) *group {
	ctx, cancel := context.WithCancel(ctx)
	return &group{ctx: ctx, cancel: cancel}
}

// run runs a part until the group ends. A part that ends before is a failure of the group.
func (g *group) run(name string, part func(context.Context) error) {
	g.wg.Go(func() {
		err := part(g.ctx)
		early := g.ctx.Err() == nil
		g.cancel()
		if err == nil && early {
			err = errors.New("it has ended by itself")
		}
		if err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
		}
	})
}

// failed is closed when the group ends, which before it is told to means that a part has failed.
func (g *group) failed() <-chan struct{} { return g.ctx.Done() }

// end ends the parts, and waits for them. It may be called several times.
func (g *group) end() error {
	g.cancel()
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
