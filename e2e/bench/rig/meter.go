package rig

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/result"
	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
)

// ticksPerSecond is the unit of processor times in /proc (USER_HZ), which is 100 on every Linux platform of Go.
const ticksPerSecond = 100

// What counts as quiet: for quietWindows windows in a row the hub uses next to no processor time and the API servers
// next to no writes; leases and probes go on all the time.
const (
	quietWindow   = 250 * time.Millisecond
	quietWindows  = 4
	quietHub      = 0.08 // cores
	quietWrites   = 1
	quietPatience = 2 * time.Minute
)

// background are the resources that are written whether or not objects change.
var background = []string{"leases", "kubefedclusters", "tokenreviews", "subjectaccessreviews"}

// Marks are positions in the audit logs of all clusters.
type Marks map[string]lab.Mark

// Mark notes how far the audit logs are.
func (r *Rig) Mark() (Marks, error) {
	marks := Marks{}
	for name, c := range r.clusters {
		mark, err := c.AuditMark()
		if err != nil {
			return nil, err
		}
		marks[name] = mark
	}
	return marks, nil
}

// Writes counts what the hub wrote to a cluster since the marks, by resource ("federatedconfigmaps/status"), failed
// requests included. Background writes are left out, and objects that skip names.
func (r *Rig) Writes(since Marks, cluster string, skip func(name string) bool) (map[string]int, error) {
	events, _, err := r.clusters[cluster].Audit(since[cluster])
	if err != nil {
		return nil, err
	}
	writes := map[string]int{}
	for _, e := range events {
		if !hubs(e) || slices.Contains(background, e.Resource) || skip != nil && skip(e.Name) {
			continue
		}
		resource := e.Resource
		if e.Subresource != "" {
			resource += "/" + e.Subresource
		}
		writes[resource]++
	}
	return writes, nil
}

// hubs reports whether a request is the hub's, by its user in the host cluster or its account in a member.
func hubs(e lab.AuditEvent) bool {
	return e.User == User || strings.HasPrefix(e.User, "system:serviceaccount:"+api.DefaultNamespace+":")
}

// Quiet waits until everything is idle, and notes how busy the machine is then.
func (r *Rig) Quiet(ctx context.Context) error {
	marks, err := r.Mark()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quietPatience)
	defer cancel()
	ticker := time.NewTicker(quietWindow)
	defer ticker.Stop()
	cpu, err := r.HubCPU()
	if err != nil {
		return err
	}
	var (
		quiet   = 0
		machine cores
	)
	for quiet < quietWindows {
		if quiet == 0 {
			machine = readCores()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the clusters to be idle: %w", context.Cause(ctx))
		case <-ticker.C:
		}
		now, err := r.HubCPU()
		if err != nil {
			return err
		}
		written, err := r.written(marks)
		if err != nil {
			return err
		}
		quiet++
		if written > quietWrites || (now-cpu).Seconds() > quietHub*quietWindow.Seconds()+1.0/ticksPerSecond {
			quiet = 0
		}
		cpu = now
	}
	r.busy = append(r.busy, readCores().busySince(machine))
	return nil
}

// written counts the writes of anybody to all clusters since marks, and moves the marks.
func (r *Rig) written(marks Marks) (int, error) {
	count := 0
	for _, name := range r.clusterNames() {
		events, mark, err := r.clusters[name].Audit(marks[name])
		if err != nil {
			return 0, err
		}
		marks[name] = mark
		for _, e := range events {
			if !slices.Contains(background, e.Resource) {
				count++
			}
		}
	}
	return count, nil
}

// HubCPU is the processor time that the hub program has used since it started.
func (r *Rig) HubCPU() (time.Duration, error) {
	used, err := CPUOf(r.hub.PID)
	if err != nil {
		return 0, fmt.Errorf("the hub, which said:\n%s\n%w", r.hub.Output(), err)
	}
	return used, nil
}

// CPUOf is the processor time that a process has used.
func CPUOf(pid int) (time.Duration, error) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return CPUTime(string(content))
}

// HubMemory is what the hub program has of the machine's memory, in bytes: all its pages, the same with shared ones in
// equal parts, and the most that it ever had.
func (r *Rig) HubMemory() (Memory, error) { return MemoryOf(r.hub.PID) }

// Memory is what a process has of the machine's memory, in bytes.
type Memory struct{ RSS, PSS, Peak int64 }

// MemoryOf reads the memory of a process.
func MemoryOf(pid int) (Memory, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status") //nolint:gosec // G304: of a process
	if err != nil {
		return Memory{}, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	rollup, err := os.ReadFile(dir + "/smaps_rollup") //nolint:gosec // G304: likewise
	if err != nil {
		return Memory{}, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return Memory{RSS: kibibytes(string(status), "VmRSS:"), PSS: lab.ParsePSS(rollup), Peak: kibibytes(string(status), "VmHWM:")}, nil
}

// kibibytes finds a line like "VmRSS:  1234 kB" and returns bytes; 0 if there is none.
func kibibytes(status, name string) int64 {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return 0
}

// HostCPU is the processor time that the host cluster's own processes, API server and etcd first of all, have used.
func (r *Rig) HostCPU(ctx context.Context) (time.Duration, error) {
	status, err := r.lab.Status(ctx)
	if err != nil {
		return 0, err
	}
	var used time.Duration
	for _, c := range status.Clusters {
		if c.Name != lab.Hub {
			continue
		}
		for _, component := range c.Components {
			content, err := os.ReadFile("/proc/" + strconv.Itoa(component.PID) + "/stat")
			if err != nil {
				return 0, fmt.Errorf("reading the processor time of the host's %s: %w", component.Name, err)
			}
			t, err := CPUTime(string(content))
			if err != nil {
				return 0, err
			}
			used += t
		}
	}
	return used, nil
}

// CPUTime reads user and system time from the content of /proc/PID/stat.
func CPUTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3 // numbered from 1 in proc(5); what follows the name starts with number 3
	if len(fields) <= system {
		return 0, fmt.Errorf("process status %q is too short", stat)
	}
	var ticks int64
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time in process status: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// cores is a reading of /proc/stat: how much processor time was used by anybody, and when.
type cores struct {
	used float64 // seconds
	at   time.Time
}

func readCores() cores {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cores{at: time.Now()}
	}
	return cores{used: UsedTime(string(content)).Seconds(), at: time.Now()}
}

func (c cores) busySince(before cores) float64 {
	return (c.used - before.used) / max(c.at.Sub(before.at).Seconds(), 0.001)
}

// UsedTime sums from the content of /proc/stat the time that all processors together did not idle; 0 if it cannot be
// read.
func UsedTime(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	var ticks int64
	for i, field := range strings.Fields(line) {
		const idle, ioWait, steal = 4, 5, 8 // after the name: user nice system idle iowait irq softirq steal guest
		if i == 0 || i == idle || i == ioWait || i >= steal {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// LoadAverage is the machine's load average of the last minute; 0 where there is none.
func LoadAverage() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), " ")
	average, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return average
}

// Load tells how busy the machine was in the quiet moments so far. average is that of before the benchmark began.
func (r *Rig) Load(average float64) result.Load {
	load := result.Load{Average: average, Cores: runtime.NumCPU()}
	if len(r.busy) > 0 {
		load.Busy = result.Percentile(r.busy, 50)
	}
	return load
}
