package sockets_test

import (
	"bufio"
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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// freePort returns an address that nobody listens on, over TCP and UDP.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(listener.Addr().String())
		packets, err := net.ListenPacket("udp", addr.String())
		_ = listener.Close()
		if err == nil {
			_ = packets.Close()
			return addr
		}
	}
	t.Fatal("there is no free port")
	return netip.AddrPort{}
}

// family is a parent with its workers, which listen on an address.
type family struct {
	*sockets.Parent

	addr  netip.AddrPort
	ended chan error
	stop  func()
}

func newFamily(t *testing.T, change func(*sockets.Options)) *family {
	t.Helper()
	f := &family{addr: freePort(t), ended: make(chan error, 1)}
	o := sockets.Options{
		Program: os.Args[0], Args: []string{"-test.run=^$"}, Look: -1, Log: testr.New(t),
		Env: []string{roleVariable + "=worker", listenVariable + "=" + f.addr.String()}, Drain: patience / 2,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Parent, err = sockets.NewParent(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { f.ended <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-f.ended:
			if err != nil {
				t.Errorf("the parent ended: %v", err)
			}
		case <-time.After(patience):
			t.Error("the parent does not end")
		}
	})
	t.Cleanup(f.stop)
	return f
}

// ask asks who serves, over a connection of its own.
func ask(addr netip.AddrPort) (pid int, err error) {
	conn, err := net.DialTimeout("tcp", addr.String(), patience)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return askOver(conn)
}

func askOver(conn net.Conn) (pid int, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

// await asks until somebody serves of whom ok is true.
func await(t *testing.T, addr netip.AddrPort, what string, ok func(pid int) bool) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); glance() {
		if pid, err := ask(addr); err == nil && ok(pid) {
			return pid
		}
	}
	t.Fatalf("%s: not within %v", what, patience)
	return 0
}

func anybody(int) bool { return true }

func other(than int) func(int) bool { return func(pid int) bool { return pid != than } }

// load asks again and again, in a few goroutines, until it is stopped.
type load struct {
	asked   atomic.Int64
	refused atomic.Int64 // connections
	failed  atomic.Int64 // requests over connections that were there
	stop    func()
}

func newLoad(addr netip.AddrPort) *load {
	l := &load{}
	over := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				l.asked.Add(1)
				_, err := ask(addr)
				op, isOp := errors.AsType[*net.OpError](err)
				switch {
				case isOp && op.Op == "dial":
					l.refused.Add(1)
				case err != nil:
					l.failed.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		close(over)
		running.Wait()
	})
	return l
}

// more waits until so many more have been asked.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.asked.Load() + n
	for deadline := time.Now().Add(patience); l.asked.Load() < until; glance() {
		if time.Now().After(deadline) {
			t.Fatalf("nothing goes on: %d asked", l.asked.Load())
		}
	}
}

func TestAWorkerThatIsKilledTakesNoListenerWithIt(t *testing.T) {
	t.Parallel()
	f := newFamily(t, func(o *sockets.Options) { o.Backoff, o.MaxBackoff = time.Millisecond, 20*time.Millisecond })
	pid := await(t, f.addr, "a first worker", anybody)
	l := newLoad(f.addr)
	defer l.stop()
	for range 5 {
		l.more(t, 50)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pid = await(t, f.addr, "the next worker", other(pid))
	}
	l.more(t, 50)
	l.stop()
	t.Logf("%d asked, %d refused, %d cut off", l.asked.Load(), l.refused.Load(), l.failed.Load())
	if l.refused.Load() != 0 {
		t.Errorf("%d connections were refused; they should wait for the next worker", l.refused.Load())
	}
	if most := int64(5 * 4); l.failed.Load() > most {
		t.Errorf("%d requests failed; only those under way with a worker that is killed may", l.failed.Load())
	}
}

func TestAnUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFamily(t, nil)
	pid := await(t, f.addr, "a first worker", anybody)
	long, err := net.Dial("tcp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = long.Close() }()
	l := newLoad(f.addr)
	defer l.stop()
	if by, err := askOver(long); err != nil || by != pid {
		t.Fatalf("the connection is served by %d, %v", by, err)
	}
	f.Upgrade()
	next := await(t, f.addr, "the new worker", other(pid))
	l.more(t, 200)
	if by, err := askOver(long); err != nil || by != pid {
		t.Errorf("a connection that was there before is served by %d, %v; want %d, until it ends", by, err, pid)
	}
	_ = long.Close()
	awaitEnd(t, pid)
	if by := await(t, f.addr, "a worker", anybody); by != next {
		t.Errorf("%d serves, not %d, though it has not ended", by, next)
	}
	l.stop()
	t.Logf("%d asked", l.asked.Load())
	if l.refused.Load() != 0 || l.failed.Load() != 0 {
		t.Errorf("%d connections were refused, %d requests failed", l.refused.Load(), l.failed.Load())
	}
}

// awaitEnd waits until a process is gone; a zombie is not.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; glance() {
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not end", pid)
		}
	}
}

func TestAWorkerThatDoesNotGetReadyReplacesNobody(t *testing.T) {
	t.Parallel()
	wait := filepath.Join(t.TempDir(), "wait")
	f := newFamily(t, func(o *sockets.Options) {
		o.Start = 500 * time.Millisecond
		o.Env = append(o.Env, extraVariable+"="+wait)
	})
	pid := await(t, f.addr, "a first worker", anybody)
	if err := os.WriteFile(wait, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Upgrade()
	second := await(t, f.addr, "the second worker, which has the sockets, too", other(pid))
	awaitEnd(t, second)
	if by := await(t, f.addr, "a worker", anybody); by != pid {
		t.Errorf("%d serves; want %d, since the new one was never ready", by, pid)
	}
}

func TestAMistakeOfConfigurationEndsTheParent(t *testing.T) {
	t.Parallel()
	p, err := sockets.NewParent(sockets.Options{
		Program: os.Args[0], Args: []string{"-test.run=^$"}, Look: -1, Log: testr.New(t), Output: io.Discard,
		Env: []string{roleVariable + "=worker", extraVariable + "=fail"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "exit status 1") {
			t.Errorf("Run = %v; it should say how the worker ended", err)
		}
	case <-time.After(patience):
		t.Error("the parent tries forever what cannot work")
	}
}

func TestTheEndOfTheParentEndsEverything(t *testing.T) {
	t.Parallel()
	f := newFamily(t, nil)
	pid := await(t, f.addr, "a worker", anybody)
	f.stop()
	awaitEnd(t, pid)
	if _, err := ask(f.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection after the end: %v; want it refused", err)
	}
}

func TestDatagramsReachTheNextWorker(t *testing.T) {
	t.Parallel()
	f := newFamily(t, nil)
	pid := await(t, f.addr, "a worker", anybody)
	conn, err := net.Dial("udp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	if _, err := conn.Write([]byte("who")); err != nil { // refused if nobody had the socket
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var octets [64]byte
	n, err := conn.Read(octets[:])
	if err != nil {
		t.Fatalf("a datagram that came while there was no worker: %v", err)
	}
	if by := string(octets[:n]); by == strconv.Itoa(pid) {
		t.Errorf("the dead answer: %s", by)
	}
}

// more tells a family's workers, from the next one on, to listen at another address, too.
func more(t *testing.T) (file string, addr netip.AddrPort) {
	t.Helper()
	file, addr = filepath.Join(t.TempDir(), "more"), freePort(t)
	if err := os.WriteFile(file, []byte(addr.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, addr
}

// awaitRefusal waits until nobody listens at an address.
func awaitRefusal(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); glance() {
		conn, err := net.Dial("tcp", addr.String())
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	t.Fatalf("somebody still listens at %s", addr)
}

func TestSocketsThatNobodyAsksForAreClosed(t *testing.T) {
	t.Parallel()
	file, addr := more(t)
	f := newFamily(t, func(o *sockets.Options) {
		o.Env, o.Forget = append(o.Env, moreVariable+"="+file), 50*time.Millisecond
	})
	pid := await(t, f.addr, "a worker", anybody)
	if conn, err := net.Dial("tcp", addr.String()); err != nil {
		t.Fatal(err)
	} else {
		_ = conn.Close()
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.Upgrade()
	next := await(t, f.addr, "the new worker, which has not asked for it", other(pid))
	awaitRefusal(t, addr)
	if by, err := ask(f.addr); err != nil || by != next {
		t.Errorf("the address that was asked for is served by %d, %v", by, err)
	}
}

func TestSocketsThatAreReleasedAreClosed(t *testing.T) {
	t.Parallel()
	file, addr := more(t)
	f := newFamily(t, func(o *sockets.Options) { o.Env = append(o.Env, moreVariable+"="+file) })
	await(t, f.addr, "a worker", anybody)
	conn, err := net.Dial("tcp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintln(conn, "release"); err != nil {
		t.Fatal(err)
	}
	awaitRefusal(t, addr)
	if n := f.Sockets(); n != 2 { // those of f.addr
		t.Errorf("%d sockets are kept, want 2", n)
	}
}

func TestInheritedWithoutAParent(t *testing.T) {
	t.Parallel()
	if _, err := sockets.Inherited(); !errors.Is(err, sockets.ErrNoParent) {
		t.Errorf("Inherited() in a process without a parent: %v", err)
	}
}

func TestDirect(t *testing.T) {
	t.Parallel()
	var direct sockets.Direct
	listener, err := direct.Listen("tcp", netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if _, err := direct.Listen("tcp", netip.MustParseAddrPort(listener.Addr().String())); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	if _, err := direct.Listen("udp", netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
		t.Error("a network of datagrams has no connections to accept")
	}
	packets, err := direct.ListenPacket("udp", netip.MustParseAddrPort("[::]:0"))
	if err != nil {
		t.Fatal(err)
	}
	_ = packets.Close()
}

// descriptors counts those of a process.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestParentReplacesItself runs a parent as a process of its own, replaces its program, and looks that nothing is lost.
func TestParentReplacesItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, addr := filepath.Join(dir, "program"), freePort(t)
	install(t, program)
	var output synced
	command := exec.Command(program, "-test.run=^$")
	command.Env = append(os.Environ(), roleVariable+"=parent", programFlag+"="+program, listenVariable+"="+addr.String())
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { _ = command.Process.Kill() })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(output.String())
		}
	})
	pid := await(t, addr, "a first worker", anybody)
	l := newLoad(addr)
	defer l.stop()
	var fds []int
	for range 4 {
		install(t, program)
		was := output.count("Replacing the parent")
		if err := command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		pid = await(t, addr, "the new worker", other(pid))
		for deadline := time.Now().Add(patience); output.count("Replacing the parent") == was; glance() {
			if time.Now().After(deadline) {
				t.Fatal("the parent was not replaced")
			}
		}
		l.more(t, 100)
		awaitChildren(t, command.Process.Pid, 1)
		fds = append(fds, descriptors(t, command.Process.Pid))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // the parent after several replacements still watches
		t.Fatal(err)
	}
	await(t, addr, "the next worker", other(pid))
	l.stop()
	if l.refused.Load() != 0 || l.failed.Load() > 4 {
		t.Errorf("of %d, %d connections were refused, %d requests failed", l.asked.Load(), l.refused.Load(), l.failed.Load())
	}
	if fds[len(fds)-1] > fds[0]+2 {
		t.Errorf("the parent's descriptors after each replacement: %v", fds)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the parent ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("the parent does not end")
	}
	if strings.Contains(output.String(), "goes on as it is") {
		t.Error("a replacement failed")
	}
}

// TestWorkersEndWithTheirParent kills a parent: its worker must not hold the sockets on for nobody.
func TestWorkersEndWithTheirParent(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	command := exec.Command(os.Args[0], "-test.run=^$")
	command.Env = append(os.Environ(), roleVariable+"=parent", programFlag+"="+os.Args[0], listenVariable+"="+addr.String())
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	pid := await(t, addr, "a worker", anybody)
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	awaitRefusal(t, addr)
	for deadline := time.Now().Add(patience); running(pid); glance() {
		if time.Now().After(deadline) {
			t.Fatalf("worker %d does not end", pid)
		}
	}
}

// running tells whether a process is there, and is no zombie that somebody else has to wait for.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// install puts a copy of this program where a parent looks for it, as package managers do.
func install(t *testing.T, at string) {
	t.Helper()
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+".new", text, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at+".new", at); err != nil {
		t.Fatal(err)
	}
}

// awaitChildren waits until a process has so many children.
func awaitChildren(t *testing.T, pid, want int) {
	t.Helper()
	var have []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); glance() {
		have = nil
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			have = append(have, strings.Fields(string(text))...)
		}
		if len(have) == want {
			return
		}
	}
	t.Fatalf("process %d has the children %v; want %d", pid, have, want)
}

// synced is a buffer for the output of several processes.
type synced struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.String()
}

func (s *synced) count(what string) int { return strings.Count(s.String(), what) }
