package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/node/lifecycle"
	"github.com/hansa-dev/hansa/e2e/node/podlog"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

// instance is one run of a container.
type instance struct {
	id       string
	process  *process.Started
	log      *podlog.Log
	spec     inside.Spec
	began    time.Time
	message  string // file for the container's last words
	stopping atomic.Bool
	ctx      context.Context //nolint:containedctx // ends with the instance, so that its probes do
	cancel   context.CancelFunc
}

// logPatience is how long output is waited for that a container's end has left in its pipes.
const logPatience = 500 * time.Millisecond

// maxMessage bounds a container's last words, as Kubernetes does.
const maxMessage = 4096

func (in *instance) kill() { _ = in.process.Signal(syscall.SIGKILL) } // which only fails for processes of others

// watch tells the worker about the end of the instance.
func (w *worker) watch(i int, in *instance) {
	exit := in.process.Exit()
	finished := time.Now()
	in.cancel()
	w.post(func() {
		if w.instances[i] != in {
			return
		}
		w.instances[i] = nil
		w.pod.Containers[i].End(lifecycle.Exited{
			ID: in.id, Code: exit.Code, Reason: lifecycle.ExitReason(exit.Code), Message: in.lastWords(),
			Started: in.began, Finished: finished,
		})
	})
	in.log.End(logPatience)
}

func (in *instance) lastWords() string {
	data, err := os.ReadFile(in.message)
	if err != nil {
		return ""
	}
	if len(data) > maxMessage {
		data = data[len(data)-maxMessage:]
	}
	return string(data)
}

// stop ends a container: its preStop hook, SIGTERM, and SIGKILL when the grace is over. It returns at once. Calling it
// again only ever hurries.
func (w *worker) stop(i int, grace time.Duration, why string) {
	in := w.instances[i]
	if in == nil {
		return
	}
	killer := time.AfterFunc(grace, in.kill)
	context.AfterFunc(in.ctx, func() { killer.Stop() })
	if in.stopping.Swap(true) {
		return
	}
	c := w.pod.Containers[i].Spec
	if why == "" {
		why = "Stopping container " + c.Name
	}
	w.event(corev1.EventTypeNormal, "Killing", "%s", why)
	target := w.target(i, in)
	go func() {
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			ctx, cancel := context.WithTimeout(in.ctx, grace)
			defer cancel()
			if err := runHook(ctx, c.Lifecycle.PreStop, target); err != nil && in.ctx.Err() == nil {
				w.event(corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
			}
		}
		_ = in.process.Signal(stopSignal(c))
		// One that was paused is to hear it.
		_ = in.process.Signal(syscall.SIGCONT)
	}()
}

func stopSignal(c *corev1.Container) syscall.Signal {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return syscall.SIGTERM
	}
	known := map[corev1.Signal]syscall.Signal{
		corev1.SIGINT: syscall.SIGINT, corev1.SIGQUIT: syscall.SIGQUIT, corev1.SIGHUP: syscall.SIGHUP,
		corev1.SIGUSR1: syscall.SIGUSR1, corev1.SIGUSR2: syscall.SIGUSR2, corev1.SIGKILL: syscall.SIGKILL,
	}
	if sig, ok := known[*c.Lifecycle.StopSignal]; ok {
		return sig
	}
	return syscall.SIGTERM
}

// stopAll ends all containers; sidecars come when the others have ended.
func (w *worker) stopAll(grace time.Duration) {
	w.deadline = time.Now().Add(grace)
	for i := range w.pod.Containers {
		if w.pod.Containers[i].Kind != lifecycle.Sidecar {
			w.stop(i, grace, "")
		} else if in := w.instances[i]; in != nil {
			killer := time.AfterFunc(grace, in.kill)
			context.AfterFunc(in.ctx, func() { killer.Stop() })
		}
	}
}

// file is a path in the pod's directory that belongs to an instance of a container.
func (w *worker) file(container string, restarts int, suffix string) string {
	return filepath.Join(w.dir, container, strconv.Itoa(restarts)+suffix)
}
