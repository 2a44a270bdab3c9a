package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

// Port is where a cluster is connected.
type Port struct {
	Name   string           // of the cluster
	Device string           // on the side of the WAN
	Peer   net.HardwareAddr // of the device on the side of the cluster
	Ranges []netip.Prefix   // IPv4; what can be reached there from other ports
}

// WAN connects ports. All its methods may be called at any time from any goroutine.
type WAN struct {
	ports  []*port
	routes routes
	lines  [][]*line // by the numbers of the ports it leads from and to; nil from a port to itself
	sky    *schedule
	start  time.Time

	setting sync.Mutex // one change at a time
}

// New connects to the devices of the ports, which are in the network namespace of the calling thread.
func New(ports []Port) (_ *WAN, err error) {
	w := &WAN{start: time.Now()}
	defer func() {
		if err != nil {
			_ = w.Close()
		}
	}()
	for _, p := range ports {
		if err := w.routes.add(len(w.ports), p.Ranges); err != nil {
			return nil, fmt.Errorf("connecting %s to the WAN: %w", p.Name, err)
		}
		opened, err := openPort(p, len(ports))
		if err != nil {
			return nil, fmt.Errorf("connecting %s to the WAN: %w", p.Name, err)
		}
		w.ports = append(w.ports, opened)
	}
	if w.sky, err = newSchedule(w.now); err != nil {
		return nil, fmt.Errorf("making the timer of the WAN: %w", err)
	}
	w.lines = make([][]*line, len(ports))
	for from := range w.lines {
		w.lines[from] = make([]*line, len(ports))
		for to := range w.lines[from] {
			if from != to {
				w.lines[from][to] = newLine(w, w.ports[from], w.ports[to])
			}
		}
	}
	return w, nil
}

// Run carries packets until ctx ends, and then lets go of the devices. It returns early with an error if a device fails.
func (w *WAN) Run(ctx context.Context) error {
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for number, p := range w.ports {
		wait.Go(func() {
			if err := p.receive(func(pkt *packet) { w.route(number, pkt) }); err != nil {
				cancel(fmt.Errorf("receiving from %s: %w", p.name, err))
			}
		})
	}
	wait.Go(func() {
		if err := w.sky.run(); err != nil {
			cancel(fmt.Errorf("the timer of the WAN: %w", err))
		}
	})
	<-ctx.Done()
	w.interrupt()
	wait.Wait()
	if err := context.Cause(ctx); !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// interrupt makes all reads return.
func (w *WAN) interrupt() {
	for _, p := range w.ports {
		p.interrupt()
	}
	w.sky.interrupt()
}

// Close lets go of the devices of a WAN that does not run. Run does it itself.
func (w *WAN) Close() error {
	var errs []error
	for _, p := range w.ports {
		errs = append(errs, p.close())
	}
	if w.sky != nil {
		errs = append(errs, w.sky.close())
	}
	return errors.Join(errs...)
}

// now is the time of all links: since the WAN was made.
func (w *WAN) now() time.Duration { return time.Since(w.start) }

// route takes over a packet that came from a port.
func (w *WAN) route(from int, pkt *packet) {
	to, ok := w.destination(from, pkt)
	if !ok {
		w.ports[from].unroutable.Add(1)
		pkt.release()
		return
	}
	w.lines[from][to].offer(pkt)
}

// destination finds the port that a packet goes to.
func (w *WAN) destination(from int, pkt *packet) (int, bool) {
	source, destination, ok := pkt.addresses()
	if !ok {
		return 0, false
	}
	if home, ok := w.routes.find(source); !ok || home != from {
		return 0, false // an answer to it would go elsewhere, or nowhere
	}
	to, ok := w.routes.find(destination)
	return to, ok && to != from
}

// Pair is one direction between two clusters, by name.
type Pair struct{ From, To string }

// Names lists the clusters in the order of their ports.
func (w *WAN) Names() []string {
	names := make([]string, 0, len(w.ports))
	for _, p := range w.ports {
		names = append(names, p.name)
	}
	return names
}

// Change sets the links of pairs to what change makes of their settings. It is all or nothing: if one of the new
// settings is wrong, no link is changed. When it returns after a cut, nothing more arrives over these links.
func (w *WAN) Change(pairs []Pair, change func(link.Settings) link.Settings) error {
	w.setting.Lock()
	defer w.setting.Unlock()
	lines := make([]*line, 0, len(pairs))
	settings := make([]link.Settings, 0, len(pairs))
	for _, pair := range pairs {
		l, err := w.line(pair)
		if err != nil {
			return err
		}
		s := change(l.settings())
		if err := s.Check(); err != nil {
			return fmt.Errorf("link from %s to %s: %w", pair.From, pair.To, err)
		}
		lines, settings = append(lines, l), append(settings, s)
	}
	for i, l := range lines {
		l.set(settings[i])
	}
	return nil
}

func (w *WAN) line(pair Pair) (*line, error) {
	from, to := w.number(pair.From), w.number(pair.To)
	if from < 0 || to < 0 || from == to {
		return nil, fmt.Errorf("there is no link from %q to %q", pair.From, pair.To)
	}
	return w.lines[from][to], nil
}

func (w *WAN) number(name string) int {
	return slices.IndexFunc(w.ports, func(p *port) bool { return p.name == name })
}

// Status is what a link is like and what it has done so far.
type Status struct {
	Pair
	link.Settings

	Packets, Bytes uint64            // delivered
	Dropped        map[string]uint64 // packets, by reason; reasons that there were none for are absent
}

// Status tells about one link.
func (w *WAN) Status(pair Pair) (Status, error) {
	l, err := w.line(pair)
	if err != nil {
		return Status{}, err
	}
	return l.status(), nil
}

// Refused counts packets of a cluster that no link was asked to carry.
type Refused struct {
	Unroutable uint64 // there is no way to their destination, or none back to their source
	Missed     uint64 // they came faster than they were read
}

// Refused tells what became of the other packets of each cluster.
func (w *WAN) Refused() map[string]Refused {
	counts := map[string]Refused{}
	for _, p := range w.ports {
		counts[p.name] = Refused{Unroutable: p.unroutable.Load(), Missed: p.overrun()}
	}
	return counts
}
