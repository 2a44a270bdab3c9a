package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is the environment variable that every process of a lab and its descendants carry. Its value is the path of
// the process's record, which begins with the lab's directory; so processes are found even if their record was never
// written.
const marker = "HANSA_LAB_PROCESS"

// processPoll is how often the end of a process is looked for.
const processPoll = 20 * time.Millisecond

// killPatience is how long a process may take to vanish after SIGKILL.
const killPatience = 10 * time.Second

// Activity is what a process is doing.
type Activity string

// Activities of a process, as shown by status.
const (
	Running Activity = "running"
	Paused  Activity = "paused" // stopped by SIGSTOP
	Gone    Activity = "stopped"
)

// Process identifies a process for good: a pid alone is given to others after its end.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks between boot and its start: field 22 of /proc/PID/stat
	Boot  string `json:"boot"`  // random id of the boot that Start counts from
}

// Stat is one reading of a process from /proc.
type Stat struct {
	Activity Activity
	Start    uint64 // as in Process
	Parent   int    // pid of the process that started it, or that it was given to
}

// ParseStat reads the content of /proc/PID/stat. The command name in it may hold spaces and parentheses. A zombie is
// Gone, for it holds nothing any more but its pid; except while other threads of it are still ending, which keep its
// files and ports.
func ParseStat(content string) (Stat, error) {
	end := strings.LastIndexByte(content, ')')
	if end < 0 {
		return Stat{}, fmt.Errorf("no command in process status %q", content)
	}
	fields := strings.Fields(content[end+1:]) // from field 3, the state, on
	const threads, start = 20 - 3, 22 - 3
	if len(fields) <= start {
		return Stat{}, fmt.Errorf("process status has %d fields, want more than %d", len(fields)+2, start+2)
	}
	ticks, err := strconv.ParseUint(fields[start], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("start time in process status: %w", err)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Stat{}, fmt.Errorf("parent in process status: %w", err)
	}
	s := Stat{Activity: Running, Start: ticks, Parent: parent}
	switch fields[0] {
	case "T", "t":
		s.Activity = Paused
	case "Z", "X", "x":
		if n, err := strconv.Atoi(fields[threads]); err != nil || n <= 1 {
			s.Activity = Gone
		}
	}
	return s, nil
}

// Identify returns the identity of the process that has pid now; the error wraps fs.ErrNotExist if there is none.
func Identify(pid int) (Process, error) {
	stat, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("reading the boot id: %w", err)
	}
	return Process{PID: pid, Start: stat.Start, Boot: string(bytes.TrimSpace(boot))}, nil
}

// Activity tells what the process is doing. A process that has ended is Gone, also if its pid is in use again.
func (p Process) Activity() Activity {
	if p.PID <= 0 {
		return Gone
	}
	now, err := Identify(p.PID)
	if err != nil || now != p {
		return Gone
	}
	stat, err := readStat(p.PID)
	if err != nil {
		return Gone
	}
	return stat.Activity
}

// Signal sends a signal to the process and to no other: the kernel's handle is opened before the identity is
// checked, so that a pid which is recycled in between is not hit. Signalling a process that has ended is no error.
func (p Process) Signal(sig syscall.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	handle, err := os.FindProcess(p.PID) // a pidfd
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.PID, err)
	}
	defer func() { _ = handle.Release() }()
	if p.Activity() == Gone {
		return nil
	}
	err = handle.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Memory returns the resident bytes of the process, and how many of them are anonymous: the processes of a lab run
// the same binary, whose pages they share. Both are 0 for a process that has ended. Share is what it takes of the machine.
func (p Process) Memory() (resident, anonymous int64) {
	if p.Activity() == Gone {
		return 0, 0
	}
	data, err := os.ReadFile(procFile(p.PID, "status"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "VmRSS" && key != "RssAnon" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		if key == "VmRSS" {
			resident = kib << 10
		} else {
			anonymous = kib << 10
		}
	}
	return resident, anonymous
}

func readStat(pid int) (Stat, error) {
	data, err := os.ReadFile(procFile(pid, "stat"))
	if errors.Is(err, syscall.ESRCH) { // it ended between open and read
		err = fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	if err != nil {
		return Stat{}, fmt.Errorf("reading the status of process %d: %w", pid, err)
	}
	return ParseStat(string(data))
}

func procFile(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// marked returns the living processes whose marker is path or lies below it, except the calling process.
func marked(path string) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile(procFile(pid, "environ")) // fails for other users' processes
		if err != nil || !carries(environ, path) {
			continue
		}
		if p, err := Identify(pid); err == nil && p.Activity() != Gone {
			found = append(found, p)
		}
	}
	return found
}

// carries tells whether an environment (NUL-separated) has the marker for path or for something below it.
func carries(environ []byte, path string) bool {
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		value, ok := strings.CutPrefix(string(variable), marker+"=")
		if ok && (value == path || strings.HasPrefix(value, path+"/")) {
			return true
		}
	}
	return false
}

// record is what the lab remembers of a process that it started.
type record struct {
	Process

	Command []string  `json:"command"`
	Log     string    `json:"log"` // file with its standard output and error
	Started time.Time `json:"started"`
}

// readRecord returns an empty record, whose process is Gone, if there is none.
func readRecord(path string) (record, error) {
	var r record
	if err := readJSON(path, &r); err != nil && !missing(err) {
		return record{}, err
	}
	return r, nil
}

// launch says how to start a process.
type launch struct {
	record  string // path of its record, and its marker
	log     string // file that gets its output, appended
	command []string
	env     []string             // without the marker
	entry   Entry                // the network that it runs in; empty: the caller's
	files   []*os.File           // inherited, from file descriptor 3 on
	attr    *syscall.SysProcAttr // default: a session of its own
}

// child is a process started by this one.
type child struct {
	record

	ended <-chan struct{} // closed when it has ended
}

// start runs a process that outlives the caller, in a session of its own, and records it.
func start(l launch) (*child, error) {
	for _, dir := range []string{filepath.Dir(l.record), filepath.Dir(l.log)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("starting %s: %w", l.command[0], err)
		}
	}
	log, err := os.OpenFile(l.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", l.command[0], err)
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	command := l.entry.Command(l.command...)
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // G204: that is its purpose; it outlives any context
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.Concat(l.env, []string{marker + "=" + l.record})
	cmd.ExtraFiles = l.files
	cmd.SysProcAttr = cmp.Or(l.attr, &syscall.SysProcAttr{Setsid: true})
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", l.command[0], err)
	}
	ended := make(chan struct{})
	p, err := Identify(cmd.Process.Pid) // before Wait, so the pid is its own even if it has ended
	go func() {
		_ = cmd.Wait() // reaps it; how it ended is in its log
		close(ended)
	}()
	c := &child{record: record{Process: p, Command: l.command, Log: l.log, Started: time.Now().UTC()}, ended: ended}
	if err == nil {
		err = writeJSON(l.record, c.record)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("recording %s: %w", l.command[0], err)
	}
	return c, nil
}

// end stops processes: SIGTERM, SIGKILL for those that are still there after grace, and waits until all are gone.
// Paused ones are continued so that they can act on the SIGTERM. When ctx ends, the rest is killed at once.
func end(ctx context.Context, processes []Process, grace time.Duration) error {
	if grace > 0 {
		for _, p := range processes {
			if err := errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGCONT)); err != nil {
				return err
			}
		}
		patience, cancel := context.WithTimeout(ctx, grace)
		gone := waitGone(patience, processes)
		cancel()
		if gone {
			return nil
		}
	}
	for _, p := range processes {
		if err := p.Signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	defer cancel()
	if !waitGone(patience, processes) {
		return fmt.Errorf("processes %v do not end after SIGKILL", living(processes))
	}
	return nil
}

// waitGone waits until all processes have ended, and tells whether they have.
func waitGone(ctx context.Context, processes []Process) bool {
	tick := time.NewTicker(processPoll)
	defer tick.Stop()
	for len(living(processes)) > 0 {
		select {
		case <-ctx.Done():
			return len(living(processes)) == 0
		case <-tick.C:
		}
	}
	return true
}

// living returns the pids of those processes that have not ended.
func living(processes []Process) []int {
	var pids []int
	for _, p := range processes {
		if p.Activity() != Gone {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// writeJSON replaces a file as a whole; readers see the old or the new content.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile is writeJSON for any content; only the owner can read it.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, value any) error {
	data, err := os.ReadFile(path) //nolint:gosec // G304: a file of the lab
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// descendants returns the living children of a process, their children, and so on: also those that threw the marker
// away.
func descendants(pid int) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if stat, err := readStat(child); err == nil {
			children[stat.Parent] = append(children[stat.Parent], child)
		}
	}
	var found []Process
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		queue = append(queue, children[queue[0]]...)
		if p, err := Identify(queue[0]); err == nil && p.Activity() != Gone {
			found = append(found, p)
		}
	}
	return found
}
