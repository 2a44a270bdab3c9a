package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootSize bounds what a container writes outside of its volumes, for that is held in memory.
const rootSize = "256m"

// systemTrees are the parts of the machine that containers see, read-only. Where they are symbolic links, as /bin is
// on most systems, so they are in the container.
var systemTrees = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// systemFiles are what programs of the system look for in /etc and what tells nothing about the machine's users. Of
// TLS that is who is trusted: the directories around it hold the machine's private keys.
var systemFiles = []string{
	"/etc/alternatives", "/etc/ca-certificates", "/etc/crypto-policies",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf",
	"/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/openssl.cnf",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
	"/etc/protocols", "/etc/services", "/etc/mime.types", "/etc/terminfo", "/etc/bash.bashrc", "/etc/inputrc",
}

// devices are shown from the machine's /dev: a user namespace cannot make device nodes.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// kernelFiles are parts of /proc that concern the machine and not the container.
var (
	readOnlyProc = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"}
	hiddenProc   = []string{"kcore", "keys", "timer_list", "latency_stats", "kmsg"}
)

// root is a container's root while it is still a directory of the machine.
type root string

func (r root) path(inside string) string { return filepath.Join(string(r), inside) }

// build mounts everything below the root.
func (r root) build(s Spec) error {
	// Nothing that happens here may be seen outside, nor the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", string(r), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size="+rootSize); err != nil {
		return fmt.Errorf("mounting the root on %s: %w", r, err)
	}
	for _, step := range []func() error{
		r.directories,
		r.system,
		r.devices,
		r.proc,
		func() error { return r.files(s.Files) },
		func() error { return r.volumes(s.Mounts) },
		func() error { return r.workingDir(s.Dir) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r root) directories() error {
	for dir, mode := range map[string]os.FileMode{
		"/proc": 0o555, "/sys": 0o555, "/dev/pts": 0o755, "/dev/shm": 0o777 | os.ModeSticky, "/etc": 0o755,
		"/tmp": 0o777 | os.ModeSticky, "/var/tmp": 0o777 | os.ModeSticky, "/var/log": 0o755, "/var/lib": 0o755, "/var/cache": 0o755,
		"/run": 0o755, "/root": 0o700, "/home": 0o755, "/mnt": 0o755, "/opt": 0o755, "/srv": 0o755, "/lab": 0o755,
	} {
		if err := os.MkdirAll(r.path(dir), mode.Perm()); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
		if err := os.Chmod(r.path(dir), mode); err != nil { // the umask does not count
			return fmt.Errorf("making %s: %w", dir, err)
		}
	}
	return os.Symlink("/run", r.path("/var/run"))
}

func (r root) system() error {
	for _, tree := range systemTrees {
		info, err := os.Lstat(tree)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("looking for %s: %w", tree, err)
		case info.Mode()&os.ModeSymlink == 0:
			err = r.bind(Mount{Source: tree, Target: tree, ReadOnly: true})
		default:
			var target string
			if target, err = os.Readlink(tree); err == nil {
				err = os.Symlink(target, r.path(tree))
			}
		}
		if err != nil {
			return err
		}
	}
	for _, file := range systemFiles {
		if err := r.bind(Mount{Source: file, Target: file, ReadOnly: true, Optional: true}); err != nil {
			return err
		}
	}
	return nil
}

func (r root) devices() error {
	for _, device := range devices {
		if err := r.bind(Mount{Source: "/dev/" + device, Target: "/dev/" + device}); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", r.path("/dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mounting /dev/pts: %w", err)
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, r.path("/dev/"+name)); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	return nil
}

func (r root) proc() error {
	if err := unix.Mount("proc", r.path("/proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, name := range readOnlyProc {
		path := r.path("/proc/" + name)
		if err := bind(path, path, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range hiddenProc {
		if err := bind(r.path("/dev/null"), r.path("/proc/"+name), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r root) files(files []File) error {
	for _, file := range files {
		path, err := r.resolve(file.Path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // G301: the container's users read it
			return fmt.Errorf("writing %s: %w", file.Path, err)
		}
		if err := os.WriteFile(path, []byte(file.Content), 0o644); err != nil { //nolint:gosec // G306: likewise
			return fmt.Errorf("writing %s: %w", file.Path, err)
		}
	}
	return nil
}

func (r root) volumes(mounts []Mount) error {
	for _, m := range mounts {
		if err := r.bind(m); err != nil {
			return err
		}
	}
	return nil
}

func (r root) workingDir(dir string) error {
	if dir == "" {
		return nil
	}
	path, err := r.resolve(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // G301: the container's users read it
		return fmt.Errorf("making the working directory %s: %w", dir, err)
	}
	return nil
}

// bind mounts a directory or a file, and makes what it is mounted on if that is missing.
func (r root) bind(m Mount) error {
	info, err := os.Stat(m.Source)
	if m.Optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mounting %s: %w", m.Target, err)
	}
	target, err := r.resolve(m.Target)
	if err != nil {
		return err
	}
	if err := makeTarget(target, info.IsDir()); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Target, err)
	}
	return bind(m.Source, target, m.ReadOnly)
}

func makeTarget(target string, dir bool) error {
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(target, 0o755) //nolint:gosec // G301: the container's users read it
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // G301: likewise
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // G302: likewise
	if err != nil {
		return err
	}
	return f.Close()
}

// bind takes everything below source along: a user namespace may not leave mounts out that it has not made. Flags are
// only ever added for the same reason.
func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	if !readOnly {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("making %s read-only: %w", target, err)
	}
	return nil
}

// maxLinks bounds the symbolic links that a path within the container may go through.
const maxLinks = 40

// resolve returns the path on the machine of an absolute path within the container. Symbolic links are followed as the
// container sees them, so that none leads out of it. Parts that do not exist are taken as they are.
func (r root) resolve(inside string) (string, error) {
	rest := strings.Split(filepath.Clean("/"+inside), "/")
	done, links := "/", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		next := filepath.Join(done, part) // ".." at the root stays there
		target, err := os.Readlink(r.path(next))
		if err != nil { // no link, or nothing there
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolving %s in the container: too many symbolic links", inside)
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return r.path(done), nil
}

// enter makes the root the root of this process, and leaves nothing of the machine's behind.
func (r root) enter(s Spec) error {
	if err := os.Chdir(string(r)); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	// The old root ends up on top of the new one, and goes.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if s.ReadOnlyRoot {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
			return fmt.Errorf("making the root read-only: %w", err)
		}
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("changing to the working directory: %w", err)
	}
	return nil
}
