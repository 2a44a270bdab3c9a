package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// SocketName is the name of the control socket in the state directory.
const SocketName = "agent.sock"

// PodInfo is what the control socket tells about a pod.
type PodInfo struct {
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	UID       string          `json:"uid"`
	Phase     corev1.PodPhase `json:"phase"`
	IP        string          `json:"ip"`
	Ready     bool            `json:"ready"`
	PIDs      []int           `json:"pids"` // as the node sees them
	RSSBytes  int64           `json:"rssBytes"`
}

// ServeControl serves the socket by which the lab commands the node, until ctx ends:
//
//	GET  /pods                        a list of PodInfo
//	POST /pods/NAMESPACE/NAME/kill    SIGKILL for all containers of the pod; its restartPolicy decides what follows
//	POST /pods/NAMESPACE/NAME/pause   SIGSTOP for all of its processes
//	POST /pods/NAMESPACE/NAME/resume  SIGCONT
func (a *Agent) ServeControl(ctx context.Context) error {
	listener, err := listenUnix(a.config.StateDir, SocketName)
	if err != nil {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pods", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.podInfos()) })
	for verb, sig := range map[string]syscall.Signal{"kill": syscall.SIGKILL, "pause": syscall.SIGSTOP, "resume": syscall.SIGCONT} {
		mux.HandleFunc("POST /pods/{namespace}/{name}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			a.serveSignal(w, r.PathValue("namespace"), r.PathValue("name"), sig)
		})
	}
	const headerTimeout = 10 * time.Second
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	return nil
}

// listenUnix listens on a socket in a directory of any length: the kernel takes only short paths, so the directory is
// named by a file descriptor.
func listenUnix(dir, name string) (net.Listener, error) {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of a former run: %w", err)
	}
	d, err := os.Open(dir) //nolint:gosec // G304: the node's own directory
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the socket: %w", err)
	}
	defer func() { _ = d.Close() }()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // the name means nothing once the directory is closed
	if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("closing the socket to other users: %w", err), listener.Close())
	}
	return listener, nil
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client may have gone
}

func (a *Agent) podInfos() []PodInfo {
	processes := processesByNamespace()
	infos := []PodInfo{}
	for _, w := range a.list() {
		pod := w.published()
		info := PodInfo{
			Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Phase: pod.Status.Phase, IP: pod.Status.PodIP, PIDs: []int{},
		}
		for _, c := range pod.Status.Conditions {
			info.Ready = info.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}
		for _, pid := range w.pids(processes) {
			info.PIDs = append(info.PIDs, pid)
			info.RSSBytes += residentBytes(pid)
		}
		infos = append(infos, info)
	}
	return infos
}

func (a *Agent) serveSignal(w http.ResponseWriter, namespace, name string, sig syscall.Signal) {
	target := a.find(namespace, name)
	if target == nil {
		answer(w, http.StatusNotFound, map[string]string{"error": fmt.Sprintf("there is no pod %s/%s on node %s", namespace, name, a.config.Name)})
		return
	}
	if err := target.signal(sig); err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"error": fmt.Sprintf("signalling pod %s/%s: %v", namespace, name, err)})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// signal sends a signal to all processes of the containers that run now. Those that are started in place of killed ones
// are not meant, so the namespaces are held: the kernel uses their names again.
func (w *worker) signal(sig syscall.Signal) error {
	namespaces, release := w.holdNamespaces()
	defer release()
	list := func() []int {
		processes := processesByNamespace()
		var pids []int
		for _, ns := range namespaces {
			pids = append(pids, processes[ns]...)
		}
		return pids
	}
	send := func(pid int) error { return syscall.Kill(pid, sig) }
	if sig == syscall.SIGCONT { // who is paused starts nobody, and who goes on may do so for ever
		return signalEach(list(), map[int]bool{}, send)
	}
	return signalAll(list, send)
}

// signalAll signals the processes that are listed until there is none that has not been: one may have started another
// between the listing and its own signal.
func signalAll(list func() []int, send func(pid int) error) error {
	done := map[int]bool{}
	var errs []error
	for {
		before := len(done)
		errs = append(errs, signalEach(list(), done, send))
		if len(done) == before {
			return errors.Join(errs...)
		}
	}
}

// signalEach signals those processes that are not done. It is no error if one has ended.
func signalEach(pids []int, done map[int]bool, send func(pid int) error) error {
	var errs []error
	for _, pid := range pids {
		if done[pid] {
			continue
		}
		done[pid] = true
		if err := send(pid); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// holdNamespaces names the PID namespaces of the containers that run, and keeps the names from being given to others
// until release is called.
func (w *worker) holdNamespaces() (names []string, release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var held []*os.File
	for _, v := range w.shown {
		if v.current == nil || v.current.ctx.Err() != nil {
			continue
		}
		f, err := os.Open(filepath.Join("/proc", strconv.Itoa(v.current.process.PID), "ns", "pid"))
		if err != nil { // it has just ended
			continue
		}
		held = append(held, f)
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil {
			names = append(names, name)
		}
	}
	return names, func() {
		for _, f := range held {
			_ = f.Close()
		}
	}
}

// pids are the processes of the pod's containers.
func (w *worker) pids(byNamespace map[string][]int) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pids []int
	for _, v := range w.shown {
		if v.current != nil && v.current.ctx.Err() == nil {
			pids = append(pids, byNamespace[pidNamespace(v.current.process.PID)]...)
		}
	}
	return pids
}

// processesByNamespace lists the processes in each PID namespace below this one.
func processesByNamespace() map[string][]int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	own := pidNamespace(os.Getpid())
	processes := map[string][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if ns := pidNamespace(pid); ns != "" && ns != own {
			processes[ns] = append(processes[ns], pid)
		}
	}
	return processes
}

// pidNamespace names the namespace of a process; "" if it has ended.
func pidNamespace(pid int) string {
	ns, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", "pid"))
	if err != nil {
		return ""
	}
	return ns
}

func residentBytes(pid int) int64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
