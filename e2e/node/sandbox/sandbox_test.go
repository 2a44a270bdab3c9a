package sandbox_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/node/nstest"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestSandbox runs all other tests of this file in namespaces of their own.
func TestSandbox(t *testing.T) { nstest.Rerun(t, "TestWithin") }

// world is what the tests within the namespaces share.
type world struct {
	sandbox *sandbox.Sandbox
	bridge  *sandbox.Bridge
	ns      *os.File
	addr    netip.Addr
}

// TestWithin is run by TestSandbox; by itself it has nothing to show.
func TestWithin(t *testing.T) {
	if !nstest.Within() {
		return
	}
	nstest.Settle(t)
	bridge, err := sandbox.SetUpBridge(netip.MustParsePrefix("10.9.1.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("10.9.1.2")
	ns, err := bridge.Connect(addr, "pod2")
	if err != nil {
		t.Fatal(err)
	}
	w := world{sandbox: &sandbox.Sandbox{Shim: nstest.Program, Table: process.NewTable()}, bridge: bridge, ns: ns, addr: addr}
	t.Run("isolation", w.isolation)
	t.Run("errors", w.errors)
	t.Run("volumes", w.volumes)
	t.Run("links", w.links)
	t.Run("privileges", w.privileges)
	t.Run("exec", w.exec)
	t.Run("terminal", w.terminal)
	t.Run("idle", w.idle)
	t.Run("end", w.end)
	t.Run("network", w.network)
}

// spec is a container that runs a shell script.
func spec(t *testing.T, script string) inside.Spec {
	t.Helper()
	return inside.Spec{
		Root: filepath.Join(t.TempDir(), "root"), Hostname: "box", Command: []string{"sh", "-c", script},
		Env: []string{"PATH=" + inside.DefaultPath, "COLOUR=blue"}, Files: []inside.File{{Path: "/etc/hosts", Content: "hosts of the container\n"}},
	}
}

// start starts a container and returns what it prints.
func (w world) start(t *testing.T, s inside.Spec) (*process.Started, func() string, error) {
	t.Helper()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	started, err := w.sandbox.Start(sandbox.Container{Spec: s, Network: w.ns, Stdout: out, Stderr: out})
	if closeErr := out.Close(); closeErr != nil {
		t.Fatal(closeErr)
	}
	if started != nil {
		t.Cleanup(func() {
			_ = started.Signal(syscall.SIGKILL)
			<-started.Done()
		})
	}
	return started, func() string {
		defer func() { _ = r.Close() }()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}, err
}

// output runs a container to its end.
func (w world) output(t *testing.T, s inside.Spec) (string, process.Exit) {
	t.Helper()
	started, read, err := w.start(t, s)
	if err != nil {
		t.Fatalf("starting %q: %v", s.Command, err)
	}
	text := read()
	return text, started.Exit()
}

func (w world) isolation(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	for _, test := range []struct{ reason, script, want string }{
		{"a container's command is the first process of its namespace", "echo $$", "1"},
		{"it sees its own processes only", "set -- /proc/[0-9]*; echo $#", "1"},
		{"its hostname is its own", "cat /proc/sys/kernel/hostname", "box"},
		{"the machine's home directories are not there", "ls -A /home /root " + home + " 2>/dev/null | grep -v : | grep -v '^$' | wc -l", "0"},
		{"nor is what the machine has in /var and /run", "ls -A /run /var/lib /var/log | grep -v : | grep -v '^$' | wc -l", "0"},
		{"the system is there", "ls /usr/bin/env", "/usr/bin/env"},
		{"and cannot be changed", "touch /usr/x 2>/dev/null || echo no", "no"},
		{"what is written stays in the container", "echo x > /etc/new && cat /etc/new", "x"},
		{"its own files come before the machine's", "cat /etc/hosts", "hosts of the container"},
		{"its environment is as it was given", "echo $COLOUR $HOME", "blue"},
		{"devices work", "head -c 3 /dev/zero | wc -c; echo lost > /dev/null", "3"},
		{"the kernel's settings cannot be changed", "(echo evil > /proc/sys/kernel/hostname) 2>/dev/null || echo no", "no"},
		{"the old root is gone", "awk '$2 == \"/\"' /proc/self/mounts | cut -d' ' -f3", "tmpfs"},
		{"of the machine's TLS there are certificates and no keys", "ls -d /etc/ssl/private /etc/pki/tls/private /etc/pki/nssdb 2>/dev/null | wc -l", "0"},
		{"all that trust in certificates needs is there", "find -L /etc/ssl/certs -type l 2>/dev/null | wc -l", missingCertificates(t)},
		{"nothing is inherited but the standard files", "ls /proc/self/fd | wc -l", "4"}, // and the one that ls reads
	} {
		text, exit := w.output(t, spec(t, test.script))
		if got := strings.TrimSpace(text); got != test.want || exit.Code != 0 {
			t.Errorf("%s: %s printed %q and ended with %d, want %q", test.reason, test.script, got, exit.Code, test.want)
		}
	}
	if _, err := os.Stat("/etc/new"); err == nil {
		t.Error("a file of the container has come to the machine")
	}
}

// missingCertificates counts, as a container is to, the certificates of the machine that are only a name.
func missingCertificates(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("/etc/ssl/certs/*")
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			missing++
		}
	}
	return strconv.Itoa(missing)
}

func (w world) errors(t *testing.T) {
	for _, test := range []struct {
		reason  string
		command []string
		want    string
	}{
		{"a command that is not in the PATH", []string{"nosuch"}, `exec: "nosuch": executable file not found in $PATH`},
		{"a path that is not there", []string{"/no/such"}, `exec: "/no/such": stat /no/such: no such file or directory`},
		{"a file that is no program", []string{"/etc/hosts"}, `exec: "/etc/hosts": permission denied`},
		{"nothing at all", nil, "no command specified"},
	} {
		s := spec(t, "")
		s.Command = test.command
		_, _, err := w.start(t, s)
		var start *sandbox.StartError
		if !errors.As(err, &start) || start.Message != test.want {
			t.Errorf("%s: the error is %v, want %s", test.reason, err, test.want)
		}
	}
	s := spec(t, "true")
	s.Mounts = []inside.Mount{{Source: "/no/such", Target: "/data"}}
	_, _, err := w.start(t, s)
	var start *sandbox.StartError
	if err == nil || errors.As(err, &start) {
		t.Errorf("a mount that is missing is not the command's fault, but the error is %v", err)
	}
	if _, exit := w.output(t, spec(t, "exit 7")); exit.Code != 7 || exit.Signal != 0 {
		t.Errorf("exit 7 is %+v", exit)
	}
}

func (w world) volumes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := spec(t, "cat /ro/old /one/file; touch /ro/x 2>/dev/null || echo ' read-only'; echo new > /rw/new; pwd")
	s.Dir = "/rw/sub"
	s.Mounts = []inside.Mount{
		{Source: dir, Target: "/rw"},
		{Source: dir, Target: "/ro", ReadOnly: true},
		{Source: filepath.Join(dir, "old"), Target: "/one/file"},
		{Source: "/no/such", Target: "/absent", Optional: true},
	}
	text, _ := w.output(t, s)
	if want := "oldold read-only\n/rw/sub\n"; text != want {
		t.Errorf("the container printed %q, want %q", text, want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(data) != "new\n" {
		t.Errorf("what the container wrote to its volume is %q, %v", data, err)
	}
	s = spec(t, "touch /x 2>/dev/null || echo no; touch /data/y && echo yes")
	s.ReadOnlyRoot = true
	s.Mounts = []inside.Mount{{Source: dir, Target: "/data"}}
	if text, _ := w.output(t, s); text != "no\nyes\n" {
		t.Errorf("with a read-only root the container printed %q", text)
	}
}

// links shows that a volume cannot have something mounted outside of the container.
func (w world) links(t *testing.T) {
	dir, machine := t.TempDir(), t.TempDir()
	if err := os.Symlink(machine, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	s := spec(t, "cat "+machine+"/inner/file")
	s.Mounts = []inside.Mount{{Source: dir, Target: "/v"}}
	s.Files = append(s.Files, inside.File{Path: machine + "/inner/file", Content: "within"})
	source := t.TempDir()
	s.Mounts = append(s.Mounts, inside.Mount{Source: source, Target: "/v/out/mounted"})
	if text, _ := w.output(t, s); text != "within" {
		t.Errorf("the container printed %q", text)
	}
	if entries, err := os.ReadDir(machine); err != nil || len(entries) > 0 {
		t.Errorf("the link led to the machine's files: %v, %v", entries, err)
	}
}

func (w world) privileges(t *testing.T) {
	const script = "mount -t tmpfs none /mnt 2>/dev/null && echo may || echo may not"
	s := spec(t, script)
	if text, _ := w.output(t, s); text != "may not\n" {
		t.Errorf("a usual container %s mount", strings.TrimSpace(text))
	}
	bounds := func(capabilities ...string) uint64 {
		t.Helper()
		s := spec(t, "awk '/^CapBnd/ { print $2 }' /proc/self/status")
		s.Capabilities = capabilities
		text, _ := w.output(t, s)
		bits, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return bits
	}
	usual := bounds()
	for _, test := range []struct {
		reason, name string
		want         uint64
	}{
		{"the network is the container's own", "NET_ADMIN", usual | 1<<unix.CAP_NET_ADMIN},
		{"names have two forms", "cap_net_admin", usual | 1<<unix.CAP_NET_ADMIN},
		{"mounts can be made writable again with it", "SYS_ADMIN", usual},
		{"the machine's disks are device nodes", "MKNOD", usual},
		{"modules are the machine's", "SYS_MODULE", usual},
		{"so is memory", "SYS_RAWIO", usual},
		{"processes of the node's namespace are not for it", "SYS_PTRACE", usual},
		{"files could be opened that it does not see", "DAC_READ_SEARCH", usual},
		{"everything is too much", "ALL", usual},
	} {
		if got := bounds(test.name); got != test.want {
			t.Errorf("%s: with %s a container has the capabilities %x, want %x", test.reason, test.name, got, test.want)
		}
		if got, want := inside.Grantable(test.name), test.want != usual; got != want {
			t.Errorf("%s: that %s can be given is %t", test.reason, test.name, got)
		}
	}
}

func (w world) exec(t *testing.T) {
	started, _, err := w.start(t, spec(t, "echo 5 > /tmp/five; while :; do sleep 10; done"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin string, args ...string) (string, process.Exit, error) {
		in, inW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = inW.WriteString(stdin)
		_ = inW.Close()
		p, _, err := w.sandbox.Exec(started.PID, sandbox.Command{Args: args, Env: []string{"A=b"}, Stdin: in, Stdout: out, Stderr: out})
		_, _ = out.Close(), in.Close()
		if err != nil {
			return "", process.Exit{}, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text), p.Exit(), nil
	}
	text, exit, err := run("input", "sh", "-c", "cat; hostname; echo $A; cat /proc/1/comm; exit 3")
	if err != nil || exit.Code != 3 || text != "inputbox\nb\nsh\n" {
		t.Errorf("the command printed %q and ended with %+v, %v", text, exit, err)
	}
	if text, _, err := run("", "sh", "-c", "mount -t tmpfs none /mnt 2>/dev/null || echo no"); err != nil || text != "no\n" {
		t.Errorf("a command may do more than the container: %q, %v", text, err)
	}
	var start *sandbox.StartError
	if _, _, err := run("", "nosuch"); !errors.As(err, &start) {
		t.Errorf("a missing command is the error %v", err)
	}
}

func (w world) terminal(t *testing.T) {
	started, _, err := w.start(t, spec(t, "while :; do sleep 10; done"))
	if err != nil {
		t.Fatal(err)
	}
	p, terminal, err := w.sandbox.Exec(started.PID, sandbox.Command{
		Args: []string{"sh", "-c", "read line; stty size; tty; echo got $line"}, Env: []string{"PATH=" + inside.DefaultPath}, Terminal: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	if err := sandbox.Resize(terminal, 30, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := terminal.WriteString("text\n"); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	_, _ = io.Copy(&text, terminal) // ends with an error when the other side is closed
	if exit := p.Exit(); exit.Code != 0 {
		t.Errorf("the command ended with %+v", exit)
	}
	if want := "text\r\n30 100\r\n/dev/pts/0\r\ngot text\r\n"; text.String() != want {
		t.Errorf("the terminal showed %q, want %q", text.String(), want)
	}
}

func (w world) idle(t *testing.T) {
	s := spec(t, "")
	s.Command, s.Idle = nil, true
	started, _, err := w.start(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := started.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := started.Exit(); exit.Code != 0 {
		t.Errorf("an idle container that was told to end did so with %+v", exit)
	}
}

// end shows that nothing outlives a container's first process.
func (w world) end(t *testing.T) {
	started, read, err := w.start(t, spec(t, "(trap '' TERM HUP; exec sleep 1000) & echo up; wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := started.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := started.Exit(); exit.Code != 137 || exit.Signal != 9 {
		t.Errorf("a container that was killed ended with %+v", exit)
	}
	read() // ends only when nobody has the pipe open any more
}

func (w world) network(t *testing.T) {
	other := netip.MustParseAddr("10.9.1.3")
	ns, err := w.bridge.Connect(other, "pod3")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	listener, err := sandbox.ListenIn(w.ns, "tcp", net.JoinHostPort(w.addr.String(), "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	from := make(chan string, 2)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			from <- host
			_ = conn.Close()
		}
	}()
	target := netip.AddrPortFrom(w.addr, 80)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := sandbox.DialIn(ns, dialer, "tcp", target)
	if err != nil {
		t.Fatalf("from pod to pod: %v", err)
	}
	_ = conn.Close()
	if got := <-from; got != other.String() {
		t.Errorf("the pod was called from %s, want %s", got, other)
	}
	if conn, err = dialer.Dial("tcp", target.String()); err != nil {
		t.Fatalf("from the node to the pod: %v", err)
	}
	_ = conn.Close()
	if got := <-from; got != w.bridge.Gateway.String() {
		t.Errorf("the pod was called from %s, want the node's %s", got, w.bridge.Gateway)
	}
	for range 2 { // the second time there is nothing to remove
		if err := sandbox.Disconnect("pod3"); err != nil {
			t.Error(err)
		}
	}
	again, err := w.bridge.Connect(other, "pod3")
	if err != nil {
		t.Fatalf("connecting a pod with an address that was in use before: %v", err)
	}
	_ = again.Close()
}
