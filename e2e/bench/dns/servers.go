package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	responder "github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/listen"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// serverCommand makes the benchmark's program Hansa's server.
const serverCommand = "dns-server"

// patience is how long a server may take until it answers.
const patience = time.Minute

// server is one that is measured: a process on a core of its own.
type server struct {
	name string
	addr netip.AddrPort
	pid  int
	stop func()
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

// serveHansa is the child that answers: it is asked once where it listens.
func serveHansa(ctx context.Context, in io.Reader, out io.Writer) error {
	r := responder.New(responder.Options{
		Snapshots: clusterset.NewLatest(snapshot()),
		Askers:    responder.Askers{Default: zone.Asker{Cluster: cluster}},
	})
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}}, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	go r.Run(ctx)
	err = child.Serve(ctx, in, out, func(context.Context, struct{}) (netip.AddrPort, error) {
		return s.Addrs(listen.UDP)[0], nil
	})
	cancel()
	return errors.Join(err, <-done)
}

// hansa starts Hansa's server.
func (b *bench) hansa(ctx context.Context) (*server, error) {
	var process *child.Process
	err := pinned(b.serverCores, func() (err error) {
		process, err = child.Start(ctx, serverCommand)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &server{name: "hansa", pid: process.PID(), stop: process.Stop}
	if err := process.Call(struct{}{}, &s.addr); err != nil {
		process.Stop()
		return nil, err
	}
	return s, s.await(ctx)
}

// coredns starts CoreDNS with its kubernetes plugin in multicluster mode.
func (b *bench) coredns(ctx context.Context) (*server, error) {
	source, err := lab.FindSource()
	if err != nil {
		return nil, err
	}
	binary, err := lab.FindDNS(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := binary.Build(ctx, b.Out); err != nil {
		return nil, err
	}
	api, stop, err := serveObjects(ctx)
	if err != nil {
		return nil, err
	}
	addr, err := free(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	path := filepath.Join(b.dir, "Corefile")
	if err := os.WriteFile(path, []byte(corefile(addr, api)), 0o600); err != nil {
		stop()
		return nil, fmt.Errorf("writing the configuration of CoreDNS: %w", err)
	}
	s, err := b.program(ctx, "coredns", addr, binary.Path, "-conf", path)
	if err != nil {
		stop()
		return nil, err
	}
	end := s.stop
	s.stop = func() {
		end()
		stop()
	}
	return s, s.await(ctx)
}

// corefile has CoreDNS answer at an address, from the API server at another one.
func corefile(addr netip.AddrPort, api string) string {
	return fmt.Sprintf("%s:%d {\n\tbind %s\n\tkubernetes %s {\n\t\tendpoint http://%s\n\t\tmulticluster %s\n\t}\n}\n",
		apex, addr.Port(), addr.Addr(), apex, api, apex)
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

// knot starts Debian's Knot with a zone file and one worker.
func (b *bench) knot(ctx context.Context) (*server, error) {
	addr, err := free(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "knot")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for Knot: %w", err)
	}
	config := fmt.Sprintf(`server:
    rundir: %[1]s
    listen: %[2]s@%[3]d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[1]s
zone:
  - domain: %[4]s
    storage: %[1]s
    file: zone
    journal-content: none
`, dir, addr.Addr(), addr.Port(), apex)
	for name, content := range map[string]string{"knot.conf": config, "zone": zoneFile()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("configuring Knot: %w", err)
		}
	}
	s, err := b.program(ctx, "knot", addr, b.knotd, "-c", filepath.Join(dir, "knot.conf"))
	if err != nil {
		return nil, err
	}
	return s, s.await(ctx)
}

// program starts a server in a process on the servers' core.
func (b *bench) program(ctx context.Context, name string, addr netip.AddrPort, path string, args ...string) (s *server, err error) {
	err = pinned(b.serverCores, func() error {
		s, err = start(ctx, name, addr, path, args...)
		return err
	})
	return s, err
}

// start starts a server in a process.
func start(ctx context.Context, name string, addr netip.AddrPort, path string, args ...string) (*server, error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // G204: a program of the benchmark
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return &server{name: name, addr: addr, pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}}, nil
}

// free returns an address of which the port is free for UDP and TCP.
func free(ctx context.Context) (netip.AddrPort, error) {
	s, err := listen.New(listen.Options{UDP: []string{"127.0.0.1:0"}, Engines: 1}, listen.HandlerFunc(nil))
	if err != nil {
		return netip.AddrPort{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return s.Addrs(listen.UDP)[0], s.Run(ctx)
}

// await waits until a server answers as it should, to each kind of question. When it never does, it is stopped.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		if last = s.check(); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("%s does not answer as it should: %w", s.name, last)
		case <-ticker.C:
		}
	}
}

// check asks for a service of each kind, a port and a missing name.
func (s *server) check() error {
	all := services()
	one, many := all[0], all[len(all)-1]
	for _, test := range []struct {
		name   string
		qtype  uint16
		rcode  int
		answer int
	}{
		{one.fqdn(), miekg.TypeA, miekg.RcodeSuccess, 1},
		{many.fqdn(), miekg.TypeA, miekg.RcodeSuccess, endpoints},
		{"_http._tcp." + one.fqdn(), miekg.TypeSRV, miekg.RcodeSuccess, 1},
		{"_http._tcp." + many.fqdn(), miekg.TypeSRV, miekg.RcodeSuccess, endpoints},
		{"missing-" + one.fqdn(), miekg.TypeA, miekg.RcodeNameError, 0},
	} {
		message := new(miekg.Msg)
		message.SetQuestion(test.name, test.qtype)
		message.SetEdns0(1232, false)
		client := &miekg.Client{Timeout: time.Second}
		got, _, err := client.Exchange(message, s.addr.String())
		if err != nil {
			return err
		}
		if got.Rcode != test.rcode || len(got.Answer) != test.answer {
			return fmt.Errorf("%s %s: got %s with %d records, want %s with %d", test.name, miekg.TypeToString[test.qtype],
				miekg.RcodeToString[got.Rcode], len(got.Answer), miekg.RcodeToString[test.rcode], test.answer)
		}
	}
	return nil
}
