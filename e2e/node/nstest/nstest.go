// Package nstest runs tests in namespaces of their own, as root if the caller is, and always as a user who is root of
// a user namespace only.
package nstest

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

// within tells the test program that it is in namespaces of its own.
const within = "HANSA_NAMESPACE_TEST"

// Program is the test program, also for users who may not see the directory that it lies in. It can be used as the
// shim, if its TestMain is Main.
const Program = "/proc/self/exe"

// nobody is a user without any rights.
const nobody = 65534

// Main runs the tests, or is the shim.
func Main(m *testing.M) {
	if os.Args[0] == "shim" {
		if inside.Run() != nil {
			os.Exit(128)
		}
		return
	}
	os.Exit(m.Run())
}

// Within tells whether the test runs in namespaces of its own.
func Within() bool { return os.Getenv(within) != "" }

// Rerun runs a test of the calling program again, in namespaces of its own. That test does nothing unless Within, and
// calls Settle first.
func Rerun(t *testing.T, test string) {
	t.Helper()
	for name, attr := range modes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), Program, "-test.run=^"+test+"$", "-test.v="+strconv.FormatBool(testing.Verbose())) //nolint:gosec // G204: itself
			cmd.Env = append(os.Environ(), within+"=1", "TMPDIR=/tmp")
			cmd.Dir = "/"
			cmd.SysProcAttr = attr
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("tests in namespaces: %v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

func modes() map[string]*syscall.SysProcAttr {
	const flags = uintptr(syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC)
	modes := map[string]*syscall.SysProcAttr{}
	user, group := os.Getuid(), os.Getgid()
	var credential *syscall.Credential
	if user == 0 {
		modes["root"] = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
		user, group = nobody, nobody
		credential = &syscall.Credential{NoSetGroups: true} // root of the namespace, which is nobody outside
	}
	modes["rootless"] = &syscall.SysProcAttr{
		Cloneflags: flags | syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL, Credential: credential,
		UidMappings: []syscall.SysProcIDMap{{HostID: user, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: group, Size: 1}},
	}
	return modes
}

// Settle prepares the namespaces: a /proc of their own, and a /tmp, for the user may not see the machine's.
func Settle(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for _, mount := range []struct{ kind, target, options string }{{"proc", "/proc", ""}, {"tmpfs", "/tmp", "mode=1777"}} {
		if err := unix.Mount(mount.kind, mount.target, mount.kind, 0, mount.options); err != nil {
			t.Fatalf("mounting %s: %v", mount.target, err)
		}
	}
	if err := inside.InheritNothing(); err != nil {
		t.Fatal(err)
	}
}
