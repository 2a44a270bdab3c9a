package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/lifecycle"
	"github.com/hansa-dev/hansa/e2e/node/podlog"
	"github.com/hansa-dev/hansa/e2e/node/podspec"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

// configRetry is how long a container waits whose configuration is wrong, before that is looked at again.
const configRetry = 2 * time.Second

// start starts a container, or notes why that cannot be.
func (w *worker) start(ctx context.Context, i int) {
	c := &w.pod.Containers[i]
	image, known := podspec.FindImage(w.agent.config.Images, c.Spec.Image)
	c.Idle = !known
	spec, err := w.describe(ctx, c, image)
	if err != nil {
		w.event(corev1.EventTypeWarning, "Failed", "Error: %v", err)
		c.Postpone(lifecycle.Waiting{Reason: lifecycle.ReasonConfigError, Message: err.Error()}, time.Now().Add(configRetry))
		return
	}
	restarts := c.Restarts
	if c.Exited != nil {
		restarts++
	}
	in, err := w.launch(c.Spec, restarts, spec)
	if err != nil {
		w.startFailed(c, err)
		return
	}
	c.Start(lifecycle.Running{ID: in.id, Started: in.began})
	w.instances[i] = in
	w.event(corev1.EventTypeNormal, "Started", "Started container %s", c.Spec.Name)
	if c.Idle {
		w.event(corev1.EventTypeWarning, "UnknownImage", "Image %q is not known to this lab: container %s is idle and counts as ready", c.Spec.Image, c.Spec.Name)
	}
	go w.watch(i, in)
	w.postStart(i, in)
	if !c.Idle {
		w.probe(i, in)
	}
}

func (w *worker) startFailed(c *lifecycle.Container, err error) {
	const code = 128
	w.event(corev1.EventTypeWarning, "Failed", "Error: %v", err)
	now := time.Now()
	c.End(lifecycle.Exited{Code: code, Reason: lifecycle.ReasonStartError, Message: err.Error(), Started: now, Finished: now})
	if _, ofCommand := errors.AsType[*sandbox.StartError](err); !ofCommand {
		w.agent.log.Error("cannot start a container", "pod", w.key, "container", c.Spec.Name, "error", err)
	}
}

// launch starts the processes and the log of a container.
func (w *worker) launch(c *corev1.Container, restarts int, spec inside.Spec) (*instance, error) {
	for _, suffix := range []string{".log", ".message"} { // the last two are kept, as by a kubelet
		_ = os.Remove(w.file(c.Name, restarts-2, suffix))
	}
	message := w.file(c.Name, restarts, ".message")
	log, err := podlog.Create(w.file(c.Name, restarts, ".log"), time.Now)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(message, nil, 0o600); err != nil {
		return nil, fmt.Errorf("starting a container: %w", err)
	}
	spec.Mounts = append(spec.Mounts, inside.Mount{Source: message, Target: cmp.Or(c.TerminationMessagePath, corev1.TerminationMessagePathDefault)})
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting a container: %w", err)
	}
	defer func() { _ = outW.Close() }()
	errR, errW, err := os.Pipe()
	if err != nil {
		_ = outR.Close()
		return nil, fmt.Errorf("starting a container: %w", err)
	}
	defer func() { _ = errW.Close() }()
	log.Collect("stdout", outR)
	log.Collect("stderr", errR)
	started, err := w.agent.sandbox.Start(sandbox.Container{Spec: spec, Network: w.network, Stdout: outW, Stderr: errW})
	if err != nil {
		go log.End(logPatience)
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &instance{
		id: "lab://" + string(uuid.NewUUID()), process: started, log: log, spec: spec, began: time.Now(), message: message,
		ctx: ctx, cancel: cancel,
	}, nil
}

// describe says how a container is to be started. An error is one of its configuration.
func (w *worker) describe(ctx context.Context, c *lifecycle.Container, image config.Image) (inside.Spec, error) {
	pod := w.withAddresses()
	objects, err := w.agent.fetch(ctx, pod.Namespace, c.Spec)
	if err != nil {
		return inside.Spec{}, err
	}
	services, err := w.agent.services.List(labels.Everything())
	if err != nil {
		return inside.Spec{}, fmt.Errorf("listing services: %w", err)
	}
	variables := podspec.Place(w.agent.config, pod)
	hostname := podspec.Hostname(pod)
	for _, v := range [][2]string{{"PATH", inside.DefaultPath}, {"HOSTNAME", hostname}, {"HOME", "/root"}} {
		variables.Set(v[0], v[1])
	}
	own, err := podspec.Environment(pod, c.Spec, objects, services)
	if err != nil {
		return inside.Spec{}, err
	}
	variables.Add(own)
	spec := inside.Spec{
		Root: w.file(c.Spec.Name, 0, ".root"), Hostname: hostname, Files: w.files(pod), Dir: c.Spec.WorkingDir, Env: w.agent.mark(variables.List()), Idle: c.Idle,
	}
	if !c.Idle {
		spec.Command = podspec.Command(c.Spec, image, own)
	}
	if err := secure(&spec, c.Spec.SecurityContext); err != nil {
		return inside.Spec{}, err
	}
	if spec.Mounts, err = w.mounts(c.Spec, own); err != nil {
		return inside.Spec{}, err
	}
	return spec, nil
}

// secure takes over what there is of a security context in the lab. What would give a container power over the machine
// is an error, also where the lab has no such power itself: pods are to be the same in both.
func secure(spec *inside.Spec, s *corev1.SecurityContext) error {
	if s == nil {
		return nil
	}
	if isTrue(s.Privileged) {
		return errors.New("privileged containers are not available in the lab, for they would own the machine: remove securityContext.privileged, and add capabilities such as NET_ADMIN")
	}
	spec.ReadOnlyRoot = isTrue(s.ReadOnlyRootFilesystem)
	if s.Capabilities == nil {
		return nil
	}
	for _, name := range s.Capabilities.Add {
		if !inside.Grantable(string(name)) {
			return fmt.Errorf("capability %s is not available in the lab, for it is about the machine: remove it from securityContext.capabilities.add", name)
		}
		spec.Capabilities = append(spec.Capabilities, string(name))
	}
	return nil
}

// mark adds the variable by which the lab recognises its processes.
func (a *Agent) mark(env []string) []string {
	if value, ok := os.LookupEnv(Marker); ok {
		env = append(env, Marker+"="+value)
	}
	return env
}

// withAddresses is the pod with the addresses that the downward API tells.
func (w *worker) withAddresses() *corev1.Pod {
	pod := w.pod.Object.DeepCopy()
	pod.Status.PodIP, pod.Status.HostIP = w.pod.IP, w.pod.HostIP
	return pod
}

// files are the small files that are made for each container.
func (w *worker) files(pod *corev1.Pod) []inside.File {
	return []inside.File{
		{Path: "/etc/hostname", Content: podspec.Hostname(pod) + "\n"},
		{Path: "/etc/hosts", Content: w.agent.dns.Hosts(pod, w.pod.IP)},
		{Path: "/etc/resolv.conf", Content: w.agent.dns.Resolver(pod).String()},
		{Path: "/etc/nsswitch.conf", Content: "passwd: files\ngroup: files\nhosts: files dns\n"},
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"},
		{Path: "/etc/group", Content: "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"},
	}
}

// mounts are the programs of the lab and the container's volumes.
func (w *worker) mounts(c *corev1.Container, v *podspec.Variables) ([]inside.Mount, error) {
	var mounts []inside.Mount
	for name, file := range podspec.Programs(w.agent.config.Images) {
		mounts = append(mounts, inside.Mount{Source: file, Target: path.Join(podspec.ProgramDir, name), ReadOnly: true})
	}
	for _, m := range c.VolumeMounts {
		source, readOnly, err := w.volumes.path(m.Name)
		if err != nil {
			return nil, err
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = podspec.Expand(m.SubPathExpr, v.Lookup)
		}
		if sub != "" {
			if source, err = subPath(source, sub); err != nil {
				return nil, err
			}
		}
		mounts = append(mounts, inside.Mount{Source: source, Target: m.MountPath, ReadOnly: readOnly || m.ReadOnly})
	}
	return mounts, nil
}

// subPath resolves a path within a volume, and makes a directory of it if there is nothing. Links must not lead out of
// the volume.
func subPath(volume, sub string) (string, error) {
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q leads out of the volume", sub)
	}
	target := filepath.Join(volume, sub)
	if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(target, 0o755); err != nil { //nolint:gosec // G301: containers read it
			return "", fmt.Errorf("making subPath %q: %w", sub, err)
		}
	}
	resolved, err := filepath.EvalSymlinks(target)
	if err != nil {
		return "", fmt.Errorf("resolving subPath %q: %w", sub, err)
	}
	root, err := filepath.EvalSymlinks(volume)
	if err != nil {
		return "", fmt.Errorf("resolving subPath %q: %w", sub, err)
	}
	if resolved != root && !strings.HasPrefix(resolved, root+"/") {
		return "", fmt.Errorf("subPath %q leads out of the volume", sub)
	}
	return resolved, nil
}
