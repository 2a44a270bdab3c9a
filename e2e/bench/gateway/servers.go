package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/eastwest/gateway"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// serverCommand makes the benchmark's program Hansa's gateway.
const serverCommand = "gateway-server"

// The names of the gateways.
const (
	hansa    = "hansa"
	haproxy  = "haproxy"
	splicing = "haproxy-splicing"
)

// maxConnections is what a gateway has to take at a time.
const maxConnections = 8_000

// patience is how long a gateway may take until it serves.
const patience = 20 * time.Second

// server is a gateway that is measured: a process on cores of its own.
type server struct {
	name string
	addr netip.AddrPort
	pid  int
	stop func()
}

// holding is what a process holds.
type holding struct {
	octets int64
	fds    int
}

func (s *server) holds() (holding, error) {
	memory, err := rig.MemoryOf(s.pid)
	if err != nil {
		return holding{}, err
	}
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(s.pid) + "/fd")
	if err != nil {
		return holding{}, fmt.Errorf("counting the descriptors of %s: %w", s.name, err)
	}
	return holding{memory.PSS, len(fds)}, nil
}

// serveHansa is the child that passes connections on: it is asked once where it listens.
func serveHansa(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	started := false
	err := child.Serve(ctx, in, out, func(_ context.Context, to endpoints) (netip.AddrPort, error) {
		pools := map[string]*gateway.Pool{plainService: gateway.NewPool(to.Plain, nil), tlsService: gateway.NewPool(to.TLS, nil)}
		s, err := gateway.New(gateway.Options{
			Addresses: []string{"127.0.0.1:0"}, Loops: 2, Connections: maxConnections, PerSource: maxConnections,
			DrainTimeout: time.Millisecond,
			Router: gateway.RouterFunc(func(t hello.Target, _ netip.Addr) gateway.Decision {
				if pool := pools[t.Key.Name]; pool != nil {
					return gateway.Decision{Pool: pool, Port: 443}
				}
				return gateway.Decision{Refusal: gateway.UnknownService}
			}),
		})
		if err != nil {
			return netip.AddrPort{}, err
		}
		started = true
		go func() { done <- s.Run(ctx) }()
		return s.Addrs()[0], nil
	})
	cancel()
	if started {
		err = errors.Join(err, <-done)
	}
	return err
}

// hansa starts Hansa's gateway.
func (b *bench) hansa(ctx context.Context) (*server, error) {
	var process *child.Process
	err := pinned(b.serverCores, func() (err error) {
		process, err = child.Start(ctx, serverCommand)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &server{name: hansa, pid: process.PID(), stop: process.Stop}
	if err := process.Call(b.endpoints, &s.addr); err != nil {
		process.Stop()
		return nil, err
	}
	return s, nil
}

// plainHAProxy starts HAProxy as it comes, and splicingHAProxy with all that makes bulk cheap.
func (b *bench) plainHAProxy(ctx context.Context) (*server, error) {
	return b.startHAProxy(ctx, haproxy, "", "")
}

func (b *bench) splicingHAProxy(ctx context.Context) (*server, error) {
	return b.startHAProxy(ctx, splicing, "    tune.pipesize 1048576\n    maxpipes 64\n", "    option splice-request\n    option splice-response\n")
}

func (b *bench) startHAProxy(ctx context.Context, name, global, defaults string) (*server, error) {
	addr, err := free(ctx)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, name+".cfg")
	if err := os.WriteFile(path, []byte(haproxyConfig(addr, global, defaults, b.endpoints)), 0o600); err != nil {
		return nil, fmt.Errorf("configuring HAProxy: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, b.haproxy, "-db", "-f", path) //nolint:gosec // G204: a program of the benchmark
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := pinned(b.serverCores, cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	s := &server{name: name, addr: addr, pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}}
	if err := await(ctx, addr, ended); err != nil {
		s.stop()
		return nil, fmt.Errorf("starting %s: %w; it said: %s", name, err, said.String())
	}
	return s, nil
}

// haproxyConfig is HAProxy choosing by server name, with two threads like Hansa.
func haproxyConfig(addr netip.AddrPort, global, defaults string, to endpoints) string {
	var c strings.Builder
	fmt.Fprintf(&c, `global
    nbthread 2
    maxconn %d
%sdefaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
%sfrontend gateway
    bind %s
    tcp-request inspect-delay 5s
    tcp-request content accept if { req.ssl_hello_type 1 }
    tcp-request content reject
`, maxConnections, global, defaults, addr)
	for _, s := range []string{plainService, tlsService} {
		fmt.Fprintf(&c, "    use_backend %s if { req.ssl_sni -i %s }\n", s, serverName(s))
	}
	for name, addrs := range map[string][]netip.AddrPort{plainService: to.Plain, tlsService: to.TLS} {
		fmt.Fprintf(&c, "backend %s\n    balance leastconn\n", name)
		for i, a := range addrs {
			fmt.Fprintf(&c, "    server s%d %s\n", i, a)
		}
	}
	return c.String()
}

// free returns an address of which the port is free.
func free(ctx context.Context) (netip.AddrPort, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return netip.ParseAddrPort(l.Addr().String())
}

// await waits until somebody listens.
func await(ctx context.Context, addr netip.AddrPort, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr.String())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// find returns the path of a program of Debian, also one for administrators only, or nothing.
func find(name string) string {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	return ""
}

// pinned calls start so that the processes it starts run on the given cores only.
func pinned(cores []int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("reading which cores this process may use: %w", err)
	}
	for _, core := range cores {
		set.Set(core)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("choosing cores %v: %w", cores, err)
	}
	err := start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// cores returns those that this process may use.
func cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("reading which cores this process may use: %w", err)
	}
	var found []int
	for i := 0; len(found) < set.Count(); i++ {
		if set.IsSet(i) {
			found = append(found, i)
		}
	}
	return found, nil
}
