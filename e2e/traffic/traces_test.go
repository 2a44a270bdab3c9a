package traffic_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// tracesPatience is how long the kernel may take to tear namespaces down.
const tracesPatience = 20 * time.Second

// traces are what a lab could leave on a machine, by kind and name.
type traces map[string]bool

// notes are what scripts noted: what the machine had, and what belonged to their lab while it was up.
type notes struct{ had, owned traces }

var noted = struct {
	sync.Mutex

	by map[string]notes
}{by: map[string]notes{}}

func tracesCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: traces NAME, ! traces NAME")
	}
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	dirs := []string{l.Dir(), homeOf(ts)} // the second is that of a user without rights
	key := l.Name() + "/" + args[0]
	noted.Lock()
	note, known := noted.by[key]
	noted.Unlock()
	if neg {
		if !known {
			ts.Fatalf("nothing was noted as %s", args[0])
		}
		awaitNothing(ts, note, dirs)
		return
	}
	if !known {
		note.had, err = host()
		ts.Check(err)
		note.owned = traces{}
	}
	for _, dir := range dirs {
		maps.Copy(note.owned, owned(dir))
	}
	noted.Lock()
	noted.by[key] = note
	noted.Unlock()
}

// awaitNothing waits until the host has what it had, and nothing of the lab is alive.
func awaitNothing(ts *testscript.TestScript, note notes, dirs []string) {
	for deadline := time.Now().Add(tracesPatience); ; {
		now, err := host()
		ts.Check(err)
		left := append(now.without(note.had), note.had.without(now)...)
		alive := namespaces()
		for trace := range note.owned {
			if alive[trace] {
				left = append(left, trace)
			}
		}
		for _, dir := range dirs {
			for trace := range owned(dir) {
				left = append(left, trace)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(left)
			ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (t traces) without(before traces) []string {
	var left []string
	for trace := range t {
		if !before[trace] {
			left = append(left, trace)
		}
	}
	slices.Sort(left)
	return left
}

// owned collects the processes that carry the mark of a directory, and the namespaces that they alone are in.
func owned(dir string) traces {
	found, ours := traces{}, namespacesOf("/proc/self")
	for pid, command := range marked(dir) {
		found[fmt.Sprintf("process %d %s", pid, command)] = true
		for namespace := range namespacesOf(fmt.Sprintf("/proc/%d", pid)) {
			if !ours[namespace] {
				found[namespace] = true
			}
		}
	}
	return found
}

// namespaces collects the namespaces that any process is in.
func namespaces() traces {
	found := traces{}
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, process := range processes {
		maps.Copy(found, namespacesOf(process))
	}
	return found
}

// namespacesOf collects the namespaces of the threads of a process.
func namespacesOf(process string) traces {
	found := traces{}
	links, _ := filepath.Glob(process + "/task/[0-9]*/ns/*") // the pattern is good
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil { // else it has ended
			found["namespace "+target] = true
		}
	}
	return found
}

// host collects what a lab must not touch: mounts, cgroups, named network namespaces, devices and addresses.
func host() (traces, error) {
	found := traces{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		found["mount "+fields[4]] = true
	}
	named, _ := filepath.Glob("/run/netns/*") // the pattern is good
	for _, path := range named {
		found["network namespace "+path] = true
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			found["cgroup "+path] = true
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		found["device "+device.Name] = true
		addresses, err := device.Addrs()
		if err != nil {
			return nil, err
		}
		for _, address := range addresses {
			found["address "+address.String()] = true
		}
	}
	return found, nil
}
