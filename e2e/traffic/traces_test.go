package traffic_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// tracesPatience is how long the kernel may take to tear namespaces down.
const tracesPatience = 20 * time.Second

// traces are what a lab could leave on a machine, by kind and name.
type traces map[string]bool

var noted = struct {
	sync.Mutex

	at map[string]traces
}{at: map[string]traces{}}

func tracesCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: traces NAME, ! traces NAME")
	}
	key := ts.Getenv("LAB") + "/" + args[0]
	now, err := look()
	ts.Check(err)
	if !neg {
		noted.Lock()
		noted.at[key] = now
		noted.Unlock()
		return
	}
	noted.Lock()
	before := noted.at[key]
	noted.Unlock()
	if before == nil {
		ts.Fatalf("nothing was noted as %s", args[0])
	}
	var left []string
	for deadline := time.Now().Add(tracesPatience); ; {
		if left = now.without(before); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
		<-time.After(100 * time.Millisecond)
		now, err = look()
		ts.Check(err)
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

// look collects the traces of the machine: processes with the mark of a lab, namespaces that a process is in or that are
// mounted, mounts, cgroups, addresses and devices.
func look() (traces, error) {
	found := traces{}
	for pid, command := range marked("") {
		found[fmt.Sprintf("process %d %s", pid, command)] = true
	}
	links, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/*")
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			found["namespace "+target] = true
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		found["mount "+fields[4]] = true
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
