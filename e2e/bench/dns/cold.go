package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/lab"
)

// How a start is watched.
const (
	knock   = time.Millisecond       // between two queries
	settled = 500 * time.Millisecond // that they go on for after the first answer
	longest = 20 * time.Second       // until it is given up
)

// coldStart measures from the start of the program to the first right answer, with nobody to learn from.
func (b *bench) coldStart(ctx context.Context) (*result.Figures, error) {
	state, certificates := filepath.Join(b.dir, "state"), filepath.Join(b.dir, "certificates")
	hansa, err := build(ctx, b.dir)
	if err != nil {
		return nil, err
	}
	hub, err := b.keep(ctx, hansa, state, certificates)
	if err != nil {
		return nil, err
	}
	coredns, err := b.lonelyCoreDNS(ctx)
	if err != nil {
		return nil, err
	}
	var ours, theirs, ourFailures, theirFailures, lost result.Runs
	for run := range b.Runs {
		addr, err := free(ctx)
		if err != nil {
			return nil, err
		}
		got, err := b.watch(ctx, addr, true, hansa, hansaArgs(addr, hub, state, certificates)...)
		if err != nil {
			return nil, err
		}
		if addr, err = free(ctx); err != nil {
			return nil, err
		}
		reference, err := b.watch(ctx, addr, false, coredns.path, "-conf", coredns.file(addr))
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, milliseconds(got.first)), append(theirs, milliseconds(reference.first))
		ourFailures, theirFailures = append(ourFailures, float64(got.failed)), append(theirFailures, float64(reference.failed))
		lost = append(lost, float64(got.lost))
		_, _ = fmt.Fprintf(b.Out, "%s run %d: hansa answers after %.1f ms, with %d wrong answers and %d lost; CoreDNS says something after %.0f ms, and SERVFAIL %d times in the next %s\n",
			coldRow, run+1, milliseconds(got.first), got.failed, got.lost, milliseconds(reference.first), reference.failed, settled)
	}
	f := result.Of(ours, theirs, "ms").With("servfail", sum(ourFailures)).With("lost_after", sum(lost)).
		With("coredns_servfail", theirFailures.Median()).With("services", addressed+headless)
	f.Note = "from the start of the process, on one core, with a snapshot on disk, its hub and API servers down, until the first right answer to a query per millisecond; " +
		"servfail: answers that were not right, in all runs, lost_after: queries without one after the first; " +
		"the reference is CoreDNS in multicluster mode without its API server: until it answers at all, and then with SERVFAIL"
	return f, nil
}

func sum(runs result.Runs) (all float64) {
	for _, each := range runs {
		all += each
	}
	return all
}

func hansaArgs(addr netip.AddrPort, hub, state, certificates string) []string {
	return []string{
		"dns", "--addr=" + addr.String(), "--hub=" + hub, "--cluster=" + cluster, "--state-dir=" + state, "--tls-dir=" + certificates, "--metrics-addr=0",
	}
}

// keep has the program learn all services from a hub, and keep them on disk. It returns where that hub was: nobody
// listens there any more.
func (b *bench) keep(ctx context.Context, hansa, state, certificates string) (hub string, err error) {
	table, err := serveTable(ctx, certificates)
	if err != nil {
		return "", err
	}
	addr, err := free(ctx)
	if err == nil {
		var s *server
		if s, err = b.program(ctx, "hansa", addr, hansa, hansaArgs(addr, table.addr, state, certificates)...); err == nil {
			if err = s.await(ctx); err == nil {
				s.stop() // which writes to disk
			}
		}
	}
	return table.addr, errors.Join(err, table.stop())
}

// lonely is CoreDNS with an API server that is not there.
type lonely struct{ path, dir, api string }

func (b *bench) lonelyCoreDNS(ctx context.Context) (lonely, error) {
	source, err := lab.FindSource()
	if err != nil {
		return lonely{}, err
	}
	binary, err := lab.FindDNS(ctx, source)
	if err != nil {
		return lonely{}, err
	}
	if err := binary.Build(ctx, b.Out); err != nil {
		return lonely{}, err
	}
	nobody, err := free(ctx)
	return lonely{path: binary.Path, dir: b.dir, api: nobody.String()}, err
}

// file writes the configuration to answer at an address, and returns its path.
func (l lonely) file(addr netip.AddrPort) string {
	path := filepath.Join(l.dir, "Corefile-"+strconv.Itoa(int(addr.Port())))
	if err := os.WriteFile(path, []byte(corefile(addr, l.api)), 0o600); err != nil {
		return "" // CoreDNS says what is missing
	}
	return path
}

// begun is what was seen of a start.
type begun struct {
	first  time.Duration // until the first answer that counted
	failed int           // answers that were not right
	lost   int           // queries after the first answer that got none
}

// watch starts a program, and asks it until it has answered for a while. Where right is true, only right answers count as
// the first one; else any does.
func (b *bench) watch(ctx context.Context, addr netip.AddrPort, right bool, path string, args ...string) (begun, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp4", addr.String())
	if err != nil {
		return begun{}, fmt.Errorf("asking %s: %w", addr, err)
	}
	k := &knocker{conn: conn, right: right, all: services(), began: time.Now()}
	s, err := b.program(ctx, filepath.Base(path), addr, path, args...)
	if err != nil {
		return begun{}, errors.Join(err, conn.Close())
	}
	defer s.stop()
	got, err := k.run(ctx)
	if err != nil {
		return got, fmt.Errorf("%s: %w", s.name, err)
	}
	return got, nil
}

// knocker asks a server that may not be there yet for one service after the other.
type knocker struct {
	conn  net.Conn
	right bool
	all   []service
	began time.Time

	mu       sync.Mutex
	answered map[uint16]bool
	from     uint16 // the first query that was sent after the first answer
	begun    begun
}

// run asks until the server has answered for a while.
func (k *knocker) run(ctx context.Context) (begun, error) {
	k.answered = map[uint16]bool{}
	var reader sync.WaitGroup
	reader.Go(k.read)
	defer reader.Wait()
	defer func() { _ = k.conn.Close() }()
	ticker := time.NewTicker(knock)
	defer ticker.Stop()
	var first time.Time
	for id := uint16(1); ; id++ {
		query := new(miekg.Msg).SetQuestion(k.of(id).fqdn(), miekg.TypeA)
		query.Id = id
		packed, err := query.Pack()
		if err != nil {
			return begun{}, fmt.Errorf("packing a query: %w", err)
		}
		_, _ = k.conn.Write(packed) // refused while nobody is there
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return begun{}, context.Cause(ctx)
		}
		now := time.Now()
		if first.IsZero() && k.started(id+1) {
			first = now
		}
		switch {
		case !first.IsZero() && now.Sub(first) > settled:
			return k.end(id), nil
		case now.Sub(k.began) > longest:
			return begun{}, fmt.Errorf("no answer within %s", longest)
		}
	}
}

func (k *knocker) of(id uint16) service { return k.all[int(id)%len(k.all)] }

// started tells whether there was an answer that counts. next is the next query's id.
func (k *knocker) started(next uint16) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.from = next
	return k.begun.first > 0
}

// end sums up. The last queries may still be answered, so they do not count as lost.
func (k *knocker) end(last uint16) begun {
	const underWay = 50
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := k.from; id+underWay < last; id++ {
		if !k.answered[id] {
			k.begun.lost++
		}
	}
	return k.begun
}

// read notes answers until the connection is closed.
func (k *knocker) read() {
	buffer := make([]byte, miekg.MaxMsgSize)
	for {
		n, err := k.conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // refused
		}
		at := time.Now()
		reply := new(miekg.Msg)
		good := reply.Unpack(buffer[:n]) == nil && k.good(reply)
		k.mu.Lock()
		k.answered[reply.Id] = true
		if !good {
			k.begun.failed++
		}
		if k.begun.first == 0 && (good || !k.right) {
			k.begun.first = at.Sub(k.began)
		}
		k.mu.Unlock()
	}
}

// good tells whether a reply has what it should.
func (k *knocker) good(reply *miekg.Msg) bool {
	want := k.of(reply.Id).addrs
	if reply.Rcode != miekg.RcodeSuccess || len(reply.Answer) != len(want) {
		return false
	}
	a, ok := reply.Answer[0].(*miekg.A)
	if !ok {
		return false
	}
	addr, _ := netip.AddrFromSlice(a.A.To4())
	return slices.Contains(want, addr)
}
