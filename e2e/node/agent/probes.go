package agent

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/node/probe"
)

// target is what the probes and hooks of a container speak to.
func (w *worker) target(i int, in *instance) probe.Target {
	return probe.Target{
		Host: w.pod.IP, Container: w.pod.Containers[i].Spec,
		Exec: func(ctx context.Context, command []string) (string, int, error) {
			return w.agent.capture(ctx, in, command)
		},
	}
}

// probe starts the probes of a container: the startup probe, and after its success the others.
func (w *worker) probe(i int, in *instance) {
	c := w.pod.Containers[i].Spec
	p := prober{worker: w, index: i, instance: in, target: w.target(i, in), container: c}
	if c.StartupProbe == nil {
		p.steady()
		return
	}
	go p.run("Startup", c.StartupProbe, func(ok bool) bool {
		if !ok {
			p.restart("startup", c.StartupProbe)
			return false
		}
		p.set(func() { p.passed() })
		p.steady()
		return false
	})
}

// prober asks one instance of a container.
type prober struct {
	worker    *worker
	index     int
	instance  *instance
	target    probe.Target
	container *corev1.Container
}

// set has the worker change something about the container, if it is still the same instance.
func (p prober) set(f func()) {
	p.worker.post(func() {
		if p.worker.instances[p.index] == p.instance {
			f()
		}
	})
}

func (p prober) passed() {
	c := &p.worker.pod.Containers[p.index]
	c.Passed = true
	c.Ready = p.container.ReadinessProbe == nil
}

// steady starts the probes of a container that has started up.
func (p prober) steady() {
	if r := p.container.ReadinessProbe; r != nil {
		go p.run("Readiness", r, func(ok bool) bool {
			p.set(func() { p.worker.pod.Containers[p.index].Ready = ok })
			return true
		})
	}
	if l := p.container.LivenessProbe; l != nil {
		go p.run("Liveness", l, func(ok bool) bool {
			if !ok {
				p.restart("liveness", l)
			}
			return ok
		})
	}
}

func (p prober) restart(kind string, spec *corev1.Probe) {
	p.set(func() {
		grace := p.worker.podGrace()
		if spec.TerminationGracePeriodSeconds != nil {
			grace = time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
		}
		p.worker.stop(p.index, grace, fmt.Sprintf("Container %s failed %s probe, will be restarted", p.container.Name, kind))
	})
}

// run asks until the instance ends or decided, which is told each change of mind, says that it is enough.
func (p prober) run(kind string, spec *corev1.Probe, decided func(ok bool) (more bool)) {
	delay, _, timeout := probe.Times(spec)
	ctx := p.instance.ctx
	course := probe.NewCourse(spec, kind != "Liveness")
	for pause := max(delay, course.First()); wait(ctx, pause); {
		result := p.ask(ctx, spec.ProbeHandler, timeout)
		if ctx.Err() != nil || p.instance.stopping.Load() && kind != "Readiness" {
			return
		}
		verdict := course.Answer(result.OK, time.Now())
		pause = verdict.Pause
		if verdict.Counted && !result.OK {
			p.worker.event(corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", kind, result.Output)
		}
		if verdict.Changed && !decided(result.OK) {
			return
		}
	}
}

func (p prober) ask(ctx context.Context, handler corev1.ProbeHandler, timeout time.Duration) probe.Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return probe.Ask(ctx, handler, p.target)
}

// wait waits, and tells whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// postStart runs the hook of a container that has started; if it fails, the container is ended.
func (w *worker) postStart(i int, in *instance) {
	c := w.pod.Containers[i].Spec
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return
	}
	target := w.target(i, in)
	go func() {
		err := runHook(in.ctx, c.Lifecycle.PostStart, target)
		if err == nil || in.ctx.Err() != nil {
			return
		}
		w.event(corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", err)
		w.post(func() {
			if w.instances[i] == in {
				w.stop(i, w.podGrace(), "FailedPostStartHook")
			}
		})
	}()
}

// runHook runs a container's hook and waits for it.
func runHook(ctx context.Context, hook *corev1.LifecycleHandler, t probe.Target) error {
	switch {
	case hook.Sleep != nil:
		wait(ctx, time.Duration(hook.Sleep.Seconds)*time.Second)
		return nil
	case hook.Exec != nil:
		output, code, err := t.Exec(ctx, hook.Exec.Command)
		if err == nil && code != 0 {
			err = fmt.Errorf("command ended with exit code %d: %s", code, output)
		}
		return err
	case hook.HTTPGet != nil:
		request, err := probe.Get(ctx, hook.HTTPGet, t)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	return nil
}

// captured bounds what is kept of the output of a probe's command.
const captured = 10 << 10

// capture runs a command in a container and returns what it printed.
func (a *Agent) capture(ctx context.Context, in *instance, command []string) (string, int, error) {
	r, out, err := os.Pipe()
	if err != nil {
		return "", 0, fmt.Errorf("running a command: %w", err)
	}
	defer func() { _ = r.Close() }()
	started, _, err := a.sandbox.Exec(in.process.PID, in.command(command, nil, out, out, false))
	_ = out.Close()
	if err != nil {
		return "", 0, err
	}
	stop := context.AfterFunc(ctx, func() { killGroup(started); _ = r.Close() })
	defer stop()
	var buffer bytes.Buffer
	copyBounded(&buffer, r, captured)
	exit := started.Exit()
	return buffer.String(), exit.Code, ctx.Err()
}
