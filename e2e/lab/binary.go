package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// modulePath is the module whose checkout holds the sources of the Kubernetes binary.
const modulePath = "github.com/hansa-dev/hansa"

// buildProgress is the time between two lines that tell how long a build has been running.
const buildProgress = 5 * time.Second

// ErrNoSource means that the Go module of the Kubernetes binary was not found.
var ErrNoSource = errors.New("sources of the Kubernetes binary not found")

// FindSource returns the folder of the Go module that builds the Kubernetes binary: e2e/kubernetes in the checkout of
// Hansa around the first of the given paths (folders or files) that lies in one. Without paths it looks around the
// working directory and then around the running executable. The error is ErrNoSource when there is none.
func FindSource(paths ...string) (string, error) {
	if len(paths) == 0 {
		if wd, err := os.Getwd(); err == nil {
			paths = append(paths, wd)
		}
		if exe, err := os.Executable(); err == nil {
			paths = append(paths, exe)
		}
	}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			continue
		}
		for dir := abs; ; dir = filepath.Dir(dir) {
			if moduleOf(dir) == modulePath {
				return filepath.Join(dir, "e2e", "kubernetes"), nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("%w: no checkout of %s around %s; run this inside the checkout, or name the folder e2e/kubernetes of one with --source",
		ErrNoSource, modulePath, strings.Join(paths, " or "))
}

// moduleOf returns the path of the module whose go.mod lies in dir, "" if there is none.
func moduleOf(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // G304: looked for on purpose
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		if fields := bytes.Fields(line); len(fields) >= 2 && string(fields[0]) == "module" {
			return string(fields[1])
		}
	}
	return ""
}

// Binary describes one build of a Go module whose programs the lab runs.
type Binary struct {
	Source  string // folder of its Go module
	Version string // of the library that it is about, as the module requires it: "v1.36.3"
	Path    string // of its first program in the cache, whether it is built or not

	what     string // for people
	programs []string
	packages []string // one per program
	flags    []string
}

// FindBinary says where the Kubernetes binary built from source (the result of FindSource) is cached. Its first argument
// selects the program: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy or kubectl. The name
// depends on the content of the sources, the build flags, the version of Go and the platform, so that a change of any of
// them makes a new one.
func FindBinary(ctx context.Context, source string) (Binary, error) {
	version, err := required(filepath.Join(source, "go.mod"), "k8s.io/kubernetes")
	if err != nil {
		return Binary{}, err
	}
	b := Binary{
		Source: source, Version: version, what: "Kubernetes " + version,
		programs: []string{"kubernetes"}, packages: []string{"."}, flags: buildFlags(version),
	}
	return b.locate(ctx)
}

// FindNode is FindBinary for the programs of a node: the node itself, the shim that starts containers, and the workloads
// that run in them, without and with xDS. source is that of the Kubernetes binary, beside which theirs lie.
func FindNode(ctx context.Context, source string) (Binary, error) {
	return findBeside(ctx, source, "node", "github.com/virtual-kubelet/virtual-kubelet", "the programs of a node", "node", "shim", "workload", "xdsload")
}

// FindDNS is FindBinary for CoreDNS.
func FindDNS(ctx context.Context, source string) (Binary, error) {
	return findBeside(ctx, source, "coredns", "github.com/coredns/coredns", "CoreDNS", "coredns")
}

// FindKwok is FindBinary for kwok, which plays nodes and Pods in thin members.
func FindKwok(ctx context.Context, source string) (Binary, error) {
	return findBeside(ctx, source, "kwok", "sigs.k8s.io/kwok", "kwok", "kwok")
}

// findBeside finds the programs of a module beside that of the Kubernetes binary. A program alone is the module's root
// package; several have a folder each below cmd.
func findBeside(ctx context.Context, source, folder, library, what string, programs ...string) (Binary, error) {
	source = filepath.Join(filepath.Dir(source), folder)
	version, err := required(filepath.Join(source, "go.mod"), library)
	if err != nil {
		return Binary{}, err
	}
	b := Binary{
		Source: source, Version: version, what: what, programs: programs, packages: []string{"."},
		// grpcnotrace leaves out what makes the linker keep every method of every type.
		flags: []string{"-trimpath", "-buildvcs=false", "-tags", "grpcnotrace", "-ldflags", "-s -w"},
	}
	if len(programs) > 1 {
		b.packages = nil
		for _, program := range programs {
			b.packages = append(b.packages, "./cmd/"+program)
		}
	}
	return b.locate(ctx)
}

// locate completes b with its place in the cache.
func (b Binary) locate(ctx context.Context) (Binary, error) {
	env, err := goEnv(ctx, b.Source)
	if err != nil {
		return Binary{}, err
	}
	hash, err := hashSource(b.Source, append(slices.Clone(b.flags), env))
	if err != nil {
		return Binary{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Binary{}, fmt.Errorf("finding the user's cache folder: %w", err)
	}
	b.Path = filepath.Join(cache, "hansa", b.programs[0]+"-"+hash, b.programs[0])
	return b, nil
}

// Program is the path of one of the programs of the build.
func (b Binary) Program(name string) string { return filepath.Join(filepath.Dir(b.Path), name) }

// Programs are the names of the programs of the build, the first one's Path first.
func (b Binary) Programs() []string { return slices.Clone(b.programs) }

// Build makes the binary unless it is cached, which takes a few minutes and tells so on out every few seconds. Two
// builders at once do not collide: the second one waits, and finds the work done.
func (b Binary) Build(ctx context.Context, out io.Writer) error {
	if executable(b.Path) {
		return nil
	}
	dir := filepath.Dir(b.Path)
	lines := &progress{w: out}
	unlock, err := lockDir(ctx, dir, func() {
		lines.say("another process is building %s; waiting for it", b.what)
	})
	if err != nil {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	defer unlock()
	if executable(b.Path) {
		return nil
	}
	return b.compile(ctx, lines)
}

// compile builds into a temporary folder and renames, so that a half-built binary is never seen: the first program, by
// which a build is known, comes last.
func (b Binary) compile(ctx context.Context, out *progress) error {
	tmp := filepath.Join(filepath.Dir(b.Path), "building")
	_ = os.RemoveAll(tmp)                    // of a builder that was killed
	defer func() { _ = os.RemoveAll(tmp) }() // nothing is left of a failed build
	began := time.Now()
	out.say("building %s from Go modules: once, and some minutes the first time", b.what)
	stop := every(buildProgress, func() {
		out.say("building %s … %s", b.what, time.Since(began).Round(time.Second))
	})
	defer stop()
	for i, program := range slices.Backward(b.programs) {
		if err := b.compileOne(ctx, filepath.Join(tmp, program), b.packages[i]); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(tmp, program), b.Program(program)); err != nil {
			return fmt.Errorf("caching %s: %w", b.what, err)
		}
	}
	out.say("built %s in %s: %s", b.what, time.Since(began).Round(time.Second), b.Path)
	return nil
}

func (b Binary) compileOne(ctx context.Context, to, pkg string) error {
	var output bytes.Buffer
	//nolint:gosec // G204: the go command with flags that are made here
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", to}, b.flags, []string{pkg})...)
	cmd.Dir, cmd.Env = b.Source, buildEnv()
	cmd.Stdout, cmd.Stderr = &output, &output
	// Its own group, interrupted as a whole: the go command then removes its temporary files.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("building %s: %w", b.what, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("building %s in %s: %w\n%s", b.what, b.Source, err, lastLines(output.String(), 20))
	}
	return nil
}

// Install puts a program of the build into dir. Of the Kubernetes binary, any name of a program is one ("kubectl"), by
// which it then knows what to be. It is a hard link where the file system allows one, else a copy, so it does not need the cache later.
func (b Binary) Install(dir, program string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("installing %s: %w", program, err)
	}
	from, target := b.Path, filepath.Join(dir, program)
	if slices.Contains(b.programs, program) {
		from = b.Program(program)
	}
	if same(from, target) {
		return nil
	}
	tmp := filepath.Join(dir, fmt.Sprintf(".%s.%d", program, os.Getpid()))
	defer func() { _ = os.Remove(tmp) }()
	if err := os.Link(from, tmp); err != nil {
		if err := copyFile(from, tmp); err != nil {
			return fmt.Errorf("installing %s: %w", program, err)
		}
	}
	if err := os.Rename(tmp, target); err != nil {
		return fmt.Errorf("installing %s: %w", program, err)
	}
	return nil
}

// buildFlags are those of a small, reproducible binary that knows its version; without the version, clients could
// not tell what the API server speaks.
func buildFlags(version string) []string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	ld := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, kv := range [][2]string{
			{"gitVersion", version},
			{"gitMajor", major},
			{"gitMinor", minor},
			{"gitCommit", ""},
			{"gitTreeState", "clean"},
		} {
			ld = append(ld, "-X", pkg+"."+kv[0]+"="+kv[1])
		}
	}
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", strings.Join(ld, " ")}
}

// buildEnv is the caller's environment without what would change the result.
func buildEnv() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
}

// goEnv returns what of the Go installation decides on the result of a build: version, system and architecture.
func goEnv(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	cmd.Dir, cmd.Env = dir, buildEnv()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking the go command for its version (the lab builds Kubernetes with it): %w", err)
	}
	return string(out), nil
}

// hashSource digests the module's files and the given facts, each with its length, so that no two inputs look alike.
func hashSource(dir string, facts []string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error { // sorted
		if err != nil || entry.IsDir() {
			return err
		}
		name := entry.Name()
		source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if !source && name != "go.mod" && name != "go.sum" {
			return nil
		}
		data, err := os.ReadFile(path) //nolint:gosec // G304, G122: sources of the checkout
		if err != nil {
			return err
		}
		within, err := filepath.Rel(dir, path)
		_, _ = fmt.Fprintf(sum, "%s %d\n%s\n", within, len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the sources in %s: %w", dir, err)
	}
	for _, fact := range facts {
		_, _ = fmt.Fprintf(sum, "%d\n%s\n", len(fact), fact)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// required reads the version of a library that a go.mod requires.
func required(gomod, library string) (string, error) {
	f, err := os.Open(gomod) //nolint:gosec // G304: sources of the checkout
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoSource, err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "require"))
		if len(fields) >= 2 && fields[0] == library {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%w: %s does not require %s", ErrNoSource, gomod, library)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o100 != 0
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func copyFile(from, to string) error {
	src, err := os.Open(from) //nolint:gosec // G304: a file of the cache
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // G302: it is a program
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// every calls f again and again until stop is called; stop waits for a running f.
func every(period time.Duration, f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	return func() { close(quit); <-done }
}

// lastLines returns the last n lines of text, without empty ones at the end.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n "), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// tail returns the last n lines of a file, "" when it cannot be read.
func tail(path string, n int) string {
	const enough = 64 << 10
	f, err := os.Open(path) //nolint:gosec // G304: a log of the lab
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > enough {
		if _, err := f.Seek(-enough, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return lastLines(string(data), n)
}

// missing tells whether a file-system error means that the thing is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
