package sockets

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Parent keeps sockets, and a worker that serves them.
type Parent struct {
	options Options
	holder  *holder
	serving sync.WaitGroup // goroutines that answer workers
	events  chan func()    // what Run's goroutine does
	over    chan struct{}  // closed when Run has ended
	hangUp  chan os.Signal
	running os.FileInfo // the program of this process

	// What follows is for Run's goroutine.

	number  uint64             // of the newest worker
	workers map[*worker]status // that live
	current *worker            // serves; nil: none at the moment
	next    *worker            // replaces it once it is ready; nil: there is no upgrade

	served   bool        // a worker was ready once
	failures int         // workers in a row that did not live for long
	broken   error       // why there is no use in going on
	ending   bool        // no more workers are started
	tried    os.FileInfo // the program of the last upgrade
	seen     os.FileInfo // the program as of the last look
}

// status is what a worker that lives is about.
type status uint8

const (
	working status = iota
	retiring
)

// NewParent returns a parent. One that comes after another in the same process has its sockets and workers.
func NewParent(o Options) (*Parent, error) {
	o, err := o.orDefault()
	if err != nil {
		return nil, fmt.Errorf("finding out what workers run: %w", err)
	}
	p := &Parent{
		options: o, holder: newHolder(), events: make(chan func(), 16), over: make(chan struct{}),
		hangUp: make(chan os.Signal, 1), workers: map[*worker]status{},
	}
	if p.running, err = os.Stat("/proc/self/exe"); err != nil {
		return nil, fmt.Errorf("finding out what runs here: %w", err)
	}
	return p, p.resume()
}

// Upgrade starts a new worker from the program on disk. Once it is ready it replaces the one that runs, and this process
// replaces itself if the program is another one. SIGHUP does the same.
func (p *Parent) Upgrade() { p.post(p.upgrade) }

// Sockets returns how many are kept.
func (p *Parent) Sockets() int { return p.holder.count() }

// post has f done by Run's goroutine.
func (p *Parent) post(f func()) {
	select {
	case p.events <- f:
	case <-p.over:
	}
}

// after has f done by Run's goroutine, later.
func (p *Parent) after(d time.Duration, f func()) { time.AfterFunc(d, func() { p.post(f) }) }

// Run keeps a worker running until ctx ends. Then all end within Options.Drain, and it returns nil. The error is about a
// worker that could not be started, or that ended of itself before any was ever ready: then something is wrong that
// another try does not mend. It may be called once.
func (p *Parent) Run(ctx context.Context) error {
	defer close(p.over)
	signal.Notify(p.hangUp, syscall.SIGHUP)
	defer signal.Stop(p.hangUp)
	if p.current == nil {
		p.launch()
	}
	if p.options.Look > 0 {
		p.after(p.options.Look, p.look)
	}
	for p.broken == nil {
		select {
		case <-ctx.Done():
			p.end()
			return nil
		case <-p.hangUp:
			p.upgrade()
		case event := <-p.events:
			event()
		}
	}
	p.end()
	return p.broken
}

// launch starts the worker that serves.
func (p *Parent) launch() {
	if p.ending || p.current != nil {
		return
	}
	w, err := p.start()
	if err == nil {
		p.current = w
		return
	}
	if !p.served {
		p.broken = err
		return
	}
	p.options.Log.Error(err, "There is no worker; connections wait", "sockets", p.holder.count())
	p.restart()
}

// restart starts a worker after one that ended: at once, unless that happens all the time.
func (p *Parent) restart() {
	p.failures++
	if p.failures == 1 {
		p.launch()
		return
	}
	p.after(min(p.options.Backoff<<min(p.failures-2, 16), p.options.MaxBackoff), p.launch)
}

// workerEnded notes the end of a worker.
func (p *Parent) workerEnded(w *worker, end ending) {
	_ = w.conn.Close()
	was := p.workers[w]
	delete(p.workers, w)
	lived := time.Since(w.started)
	p.options.Log.Info("A worker has ended", "worker", w.number, "how", end.reason, "after", lived.Round(time.Millisecond).String())
	switch {
	case w == p.next:
		p.next = nil
		p.options.Log.Info("The new worker was not ready yet; the one before goes on")
	case w == p.current && p.next != nil:
		p.current, p.next = p.next, nil
	case w == p.current:
		p.current = nil
		p.expect(p.number + 1)
		if lived >= p.options.Steady {
			p.failures = 0
		}
		if end.code >= 0 && !p.served {
			p.broken = fmt.Errorf("the gateway could not start: its worker ended before it was ready (%s)", end.reason)
			return
		}
		p.restart()
	case was == retiring:
	}
}

// expect gives sockets time to be asked for by a worker of this number or a greater one, and then closes the others.
func (p *Parent) expect(number uint64) {
	p.holder.abandon(number, time.Now().Add(p.options.Forget))
	p.after(p.options.Forget, func() {
		if names := p.holder.forget(time.Now()); len(names) > 0 {
			p.options.Log.Info("Closed sockets that nobody asks for any more", "sockets", names)
		}
	})
}

// workerReady notes that a worker serves.
func (p *Parent) workerReady(w *worker) {
	if _, lives := p.workers[w]; !lives || p.ending || w.ready {
		return
	}
	w.ready, p.served = true, true
	if w != p.next {
		p.expect(w.number)
		return
	}
	old := p.current
	p.current, p.next = w, nil
	p.options.Log.Info("The new worker serves", "worker", w.number)
	if old != nil {
		p.retire(old, Retire)
	}
	p.expect(w.number)
	if p.tried != nil && !os.SameFile(p.tried, p.running) {
		p.replace()
	}
}

// retire tells a worker to end, and kills it if it does not.
func (p *Parent) retire(w *worker, order Order) {
	p.workers[w] = retiring
	if err := w.say(string(order), -1); err != nil {
		p.options.Log.Error(err, "A worker cannot be told to end; it is killed", "worker", w.number)
		_ = w.process.Kill()
		return
	}
	p.after(p.options.Drain, func() {
		if _, lives := p.workers[w]; lives {
			p.options.Log.Info("A worker has not ended in time; it is killed", "worker", w.number)
			_ = w.process.Kill()
		}
	})
}

// upgrade starts a worker that is to replace the one that serves.
func (p *Parent) upgrade() {
	if p.ending || p.next != nil || p.current == nil {
		return // there is a new one, or will be
	}
	p.tried, _ = os.Stat(p.options.Program)
	w, err := p.start()
	if err != nil {
		p.options.Log.Error(err, "There is no new worker; the one before goes on")
		return
	}
	p.next = w
	p.after(p.options.Start, func() {
		if p.next == w {
			p.options.Log.Info("The new worker does not get ready; it is killed", "worker", w.number)
			_ = w.process.Kill()
		}
	})
}

// look looks whether the program on disk is another one, and upgrades once it is whole: the same at two looks.
func (p *Parent) look() {
	if p.ending {
		return
	}
	p.after(p.options.Look, p.look)
	now, err := os.Stat(p.options.Program)
	if err != nil || os.SameFile(now, p.running) {
		return
	}
	if same(now, p.seen) && !same(now, p.tried) {
		p.options.Log.Info("The program has changed", "program", p.options.Program)
		p.upgrade()
	}
	p.seen = now
}

// same tells whether a file is still as it was; nil is never.
func same(now, before os.FileInfo) bool {
	return before != nil && os.SameFile(now, before) && now.Size() == before.Size() && now.ModTime().Equal(before.ModTime())
}

// end has all workers end, and waits for that.
func (p *Parent) end() {
	p.ending = true
	p.holder.close() // who connects when the worker has closed its own is refused, and does not wait for nobody
	for w := range p.workers {
		p.retire(w, Stop)
	}
	patience := time.After(p.options.Drain + 5*time.Second) // what is killed is gone by then
	for len(p.workers) > 0 {
		select {
		case event := <-p.events:
			event()
		case <-patience:
			p.options.Log.Info("Workers are left behind that cannot be killed", "workers", len(p.workers))
			return
		}
	}
}
