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
	var errs []error
	for _, pid := range target.pids(processesByNamespace()) {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("signalling process %d of pod %s/%s: %w", pid, namespace, name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	w.WriteHeader(http.StatusNoContent)
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
