package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/podspec"
)

// setupError is an error of a pod's setup, with the reason of the event that tells about it.
type setupError struct {
	reason string
	err    error
}

func (e *setupError) Error() string { return e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// quietSetup is how long setting up a pod may fail before anybody is told: what is missing is often on its way.
const quietSetup = 500 * time.Millisecond

// prepare makes the pod's volumes and its network. It can be repeated.
func (w *worker) prepare(ctx context.Context) error {
	spec := &w.pod.Object.Spec
	if spec.HostPID || spec.HostIPC {
		return &setupError{"FailedCreatePodSandBox", errors.New("hostPID and hostIPC are not available in the lab")}
	}
	if w.volumes == nil {
		v, err := newVolumes(w.agent, w.dir, w.pod.Object)
		if err != nil {
			return &setupError{"FailedMount", err}
		}
		w.volumes = v
	}
	if w.network == nil {
		if err := w.connect(); err != nil {
			return &setupError{"FailedCreatePodSandBox", err}
		}
	}
	pod := w.pod.Object.DeepCopy()
	pod.Status.PodIP, pod.Status.HostIP = w.ip(), w.pod.HostIP
	if err := w.volumes.fill(ctx, pod); err != nil {
		return &setupError{"FailedMount", err}
	}
	w.pod.IP = w.ip()
	for _, message := range podspec.Ignored(pod) { // once, for from now on the pod is set up
		w.event(corev1.EventTypeWarning, "Ignored", "%s", message)
	}
	return nil
}

func (w *worker) ip() string {
	if w.pod.Object.Spec.HostNetwork {
		return w.agent.config.Address.String()
	}
	return w.address.String()
}

// connect gives the pod a network.
func (w *worker) connect() error {
	if w.pod.Object.Spec.HostNetwork {
		w.setNetwork(w.agent.hostNet)
		return nil
	}
	address, err := w.agent.takeAddress()
	if err != nil {
		return err
	}
	device := deviceName(address)
	ns, err := w.agent.bridge.Connect(address, device)
	if err != nil {
		w.agent.giveBack(address)
		return err
	}
	w.address, w.device = address, device
	w.setNetwork(ns)
	return nil
}

func (w *worker) setNetwork(ns *os.File) {
	w.network = ns
	w.mu.Lock()
	w.netns = ns
	w.mu.Unlock()
}

// deviceName is the name of the node's end of a pod's connection.
func deviceName(address netip.Addr) string {
	ip := address.As4()
	return fmt.Sprintf("pod%02x%02x", ip[2], ip[3])
}

func (a *Agent) giveBack(address netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses.free(address)
}

// complainSetup tells why a pod is not set up yet.
func (w *worker) complainSetup(err error) {
	if time.Since(w.setup.since) < quietSetup {
		return
	}
	reason := "Failed"
	if setup, ok := errors.AsType[*setupError](err); ok {
		reason = setup.reason
	}
	w.event(corev1.EventTypeWarning, reason, "%v", err)
}

// fetch gets the ConfigMaps and Secrets that the environment of a container refers to.
func (a *Agent) fetch(ctx context.Context, namespace string, c *corev1.Container) (podspec.Objects, error) {
	objects := podspec.Objects{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}, Node: allocatable(a.config)}
	configMaps, secrets := podspec.References(c)
	for _, name := range configMaps {
		object, err := a.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			objects.ConfigMaps[name] = object
		} else if !apierrors.IsNotFound(err) {
			return objects, fmt.Errorf("reading ConfigMap %s: %w", name, err)
		}
	}
	for _, name := range secrets {
		object, err := a.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			objects.Secrets[name] = object
		} else if !apierrors.IsNotFound(err) {
			return objects, fmt.Errorf("reading Secret %s: %w", name, err)
		}
	}
	return objects, nil
}

// announceDelays tells once for each restart that it is being delayed.
func (w *worker) announceDelays(delayed []int) {
	for _, i := range delayed {
		c := &w.pod.Containers[i]
		if told, ok := w.delayed[i]; ok && told == c.Restarts {
			continue
		}
		w.delayed[i] = c.Restarts
		w.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)",
			c.Spec.Name, w.key.name, w.key.namespace, w.pod.Object.UID)
	}
}
