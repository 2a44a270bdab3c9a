// Package gateway measures what it costs to pass TLS connections on by server name, beside HAProxy on the same cores, with
// the same clients and endpoints, in the same run.
//
// What counts is the processor time of the gateway's process, the kernel's work for it included. Clients and endpoints are
// in a process of their own, on other cores. Everything goes over the loopback interface.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

// The rows.
const (
	Bulk       = "gw-bulk-passthrough"
	Connection = "gw-connection"
	IdleMemory = "gw-idle-memory"
)

// The work of one run.
const (
	bulkConnections  = 16
	bulkBytes        = 4 << 30 // in all
	parallel         = 32      // connections at a time
	plainConnections = 12_000
	tlsConnections   = 3_000
	warmConnections  = 500
	idleConnections  = 4_000
)

// Options say what to run.
type Options struct {
	Runs int
	Only []string // rows; empty means all
	Out  io.Writer
}

// Child runs the part's processes, if args ask for one of them.
func Child(ctx context.Context, args []string, in io.Reader, out io.Writer) (bool, error) {
	switch {
	case len(args) == 0:
		return false, nil
	case args[0] == loadCommand:
		return true, serveLoad(ctx, in, out)
	case args[0] == serverCommand:
		return true, serveHansa(ctx, in, out)
	case args[0] == siteCommand:
		return true, serveSite(ctx, in, out)
	case args[0] == worldCommand:
		return true, serveWorld(ctx, in, out)
	}
	return false, nil
}

// bench is one run of the part.
type bench struct {
	Options

	dir                    string
	serverCores, loadCores []int
	load                   *child.Process
	endpoints              endpoints
	haproxy                string // path of the program
}

// series are the figures of one gateway.
type series struct {
	bulk, plain, tls result.Runs // processor seconds per GB (10⁹ octets), µs per connection, likewise
	memory, fds      result.Runs // octets and descriptors per connection at rest
}

// Run measures the rows.
func Run(ctx context.Context, o Options) ([]result.Row, error) {
	if o.Runs < 1 {
		return nil, errors.New("at least one run is needed")
	}
	rows := slices.DeleteFunc([]string{Bulk, Connection, IdleMemory, BulkTunnel, FirstByte, Failover}, func(id string) bool {
		return len(o.Only) > 0 && !slices.Contains(o.Only, id)
	})
	if len(rows) == 0 {
		return nil, nil
	}
	load := result.Load{Average: rig.LoadAverage(), Cores: runtime.NumCPU()}
	available, err := cores()
	if err != nil {
		return nil, err
	}
	if len(available) < 4 {
		return skipped(rows, fmt.Sprintf("this machine has %d cores; the gateway needs two, and the clients two others", len(available))), nil
	}
	b := &bench{Options: o, serverCores: available[:2], loadCores: available[2:], haproxy: find("haproxy")}
	if b.haproxy == "" {
		return skipped(rows, "HAProxy is the reference and is not installed: apt-get install haproxy"), nil
	}
	var found []result.Row
	for _, part := range []func(context.Context, []string) (map[string]*result.Figures, error){b.run, b.distance} {
		measured, err := part(ctx, rows)
		if errors.Is(err, errNoWorld) {
			found = append(found, skipped(chosen(rows, FirstByte, Failover), err.Error())...)
			continue
		}
		if err != nil {
			return found, fmt.Errorf("gateway: %w", err)
		}
		for _, id := range rows {
			if f := measured[id]; f != nil {
				f.Load, f.Time = load, time.Now().UTC().Format(time.RFC3339)
				found = append(found, result.Row{ID: id, Figures: f})
			}
		}
	}
	return found, nil
}

// chosen returns those of some rows that are to be measured.
func chosen(rows []string, some ...string) []string {
	return slices.DeleteFunc(some, func(id string) bool { return !slices.Contains(rows, id) })
}

func skipped(rows []string, why string) []result.Row {
	var all []result.Row
	for _, id := range rows {
		all = append(all, result.Row{ID: id, Skipped: why})
	}
	return all
}

// run measures the rows that need no distance.
func (b *bench) run(ctx context.Context, rows []string) (map[string]*result.Figures, error) {
	passing := chosen(rows, Bulk, Connection, IdleMemory)
	if len(passing) == 0 && !slices.Contains(rows, BulkTunnel) {
		return nil, nil
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "bench-gateway-"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	err = pinned(b.loadCores, func() (err error) {
		b.load, err = child.Start(ctx, loadCommand)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer b.load.Stop()
	var o outcome
	if err := b.load.Call(job{Kind: begin}, &o); err != nil {
		return nil, err
	}
	b.endpoints = o.Endpoints
	found := map[string]*result.Figures{}
	if len(passing) > 0 {
		all, err := b.passthrough(ctx, passing)
		if err != nil {
			return nil, err
		}
		for _, id := range passing {
			found[id] = figures(id, all)
		}
	}
	if slices.Contains(rows, BulkTunnel) {
		if found[BulkTunnel], err = b.tunnels(ctx); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// passthrough measures all gateways, one after the other, run by run.
func (b *bench) passthrough(ctx context.Context, rows []string) (map[string]*series, error) {
	all := map[string]*series{}
	for i := range b.Runs {
		for _, start := range []func(context.Context) (*server, error){b.hansa, b.plainHAProxy, b.splicingHAProxy} {
			if err := b.measure(ctx, i, rows, start, all); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// measure starts a gateway, measures it and stops it. Of HAProxy that splices, only bulk is of interest.
func (b *bench) measure(ctx context.Context, run int, rows []string, start func(context.Context) (*server, error), all map[string]*series) error {
	s, err := start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if all[s.name] == nil {
		all[s.name] = &series{}
	}
	to := all[s.name]
	if _, _, err := b.work(s, job{Kind: plain, Count: warmConnections, Parallel: parallel}); err != nil {
		return err
	}
	if slices.Contains(rows, IdleMemory) && s.name != splicing {
		if err := b.rest(s, to); err != nil {
			return err
		}
	}
	if slices.Contains(rows, Connection) && s.name != splicing {
		if err := b.connections(s, to); err != nil {
			return err
		}
	}
	if slices.Contains(rows, Bulk) {
		used, o, err := b.work(s, job{Kind: bulk, Count: bulkConnections, Parallel: bulkConnections, Octets: bulkBytes / bulkConnections})
		if err != nil {
			return err
		}
		to.bulk = append(to.bulk, used.Seconds()/(float64(o.Octets)/1e9))
	}
	last := func(r result.Runs) float64 {
		if len(r) == 0 {
			return 0
		}
		return r[len(r)-1]
	}
	_, _ = fmt.Fprintf(b.Out, "gateway run %d: %-16s %.3f CPU-s/GB, %.1f µs per connection, %.1f with TLS, %.0f octets and %.2f descriptors at rest\n",
		run+1, s.name, last(to.bulk), last(to.plain), last(to.tls), last(to.memory), last(to.fds))
	return nil
}

func (b *bench) connections(s *server, to *series) error {
	used, o, err := b.work(s, job{Kind: plain, Count: plainConnections, Parallel: parallel})
	if err != nil {
		return err
	}
	to.plain = append(to.plain, float64(used.Microseconds())/float64(o.Done))
	if used, o, err = b.work(s, job{Kind: secure, Count: tlsConnections, Parallel: parallel}); err != nil {
		return err
	}
	to.tls = append(to.tls, float64(used.Microseconds())/float64(o.Done))
	return nil
}

// rest measures what connections at rest hold.
func (b *bench) rest(s *server, to *series) error {
	before, err := s.holds()
	if err != nil {
		return err
	}
	if _, _, err := b.work(s, job{Kind: hold, Count: idleConnections, Parallel: parallel}); err != nil {
		return err
	}
	after, err := s.holds()
	if err != nil {
		return err
	}
	if err := b.load.Call(job{Kind: release}, nil); err != nil {
		return err
	}
	to.memory = append(to.memory, float64(after.octets-before.octets)/idleConnections)
	to.fds = append(to.fds, float64(after.fds-before.fds)/idleConnections)
	return nil
}

// work has the clients do something, and returns the processor time that it cost the gateway.
func (b *bench) work(s *server, j job) (time.Duration, outcome, error) {
	j.To = s.addr
	before, err := rig.CPUOf(s.pid)
	if err != nil {
		return 0, outcome{}, err
	}
	var o outcome
	if err := b.load.Call(j, &o); err != nil {
		return 0, o, fmt.Errorf("through %s: %w", s.name, err)
	}
	after, err := rig.CPUOf(s.pid)
	if err != nil {
		return 0, o, err
	}
	if o.Done != j.Count {
		return 0, o, fmt.Errorf("through %s: %d of %d connections did what they should", s.name, o.Done, j.Count)
	}
	return after - before, o, nil
}

// figures compares the gateways.
func figures(id string, all map[string]*series) *result.Figures {
	ours, theirs := all[hansa], all[haproxy]
	switch id {
	case Bulk:
		f := result.Of(ours.bulk, theirs.bulk, "CPU-s/GB").With("splicing_haproxy_CPU-s/GB", all[splicing].bulk.Median())
		f.Note = strconv.Itoa(bulkConnections) + " connections, endpoint to client; the reference is HAProxy as it comes; the other splices, with pipes of 1 MiB"
		return f
	case Connection:
		f := result.Of(ours.plain, theirs.plain, "µs").
			With("tls_us", ours.tls.Median()).With("haproxy_tls_us", theirs.tls.Median()).With("tls_ratio", ours.tls.Median()/theirs.tls.Median())
		f.Note = "processor time per connection: a ClientHello, one octet back, end; tls: a handshake of TLS 1.3 end to end, and one octet each way"
		return f
	default:
		f := result.Of(ours.memory, theirs.memory, "B").With("descriptors", ours.fds.Median()).With("haproxy_descriptors", theirs.fds.Median())
		f.Note = strconv.Itoa(idleConnections) + " connections that are through and rest; memory of the process, without the kernel's"
		return f
	}
}
