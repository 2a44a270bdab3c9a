package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// readyPoll is how often a starting cluster is asked whether it is ready.
const readyPoll = 50 * time.Millisecond

// readyPatience is how long each step of a start may take on a machine that is busy with other things.
const readyPatience = 3 * time.Minute

// probeTimeout bounds one request that asks for readiness: a paused API server takes the connection and is silent.
const probeTimeout = 2 * time.Second

// errNotReady is what the last probe said when patience ends.
var errNotReady = errors.New("not ready")

// await waits until a component serves those that start after it: etcd accepts connections, the API server is ready.
// The other two serve nobody.
func (c Cluster) await(ctx context.Context, component Component, children map[Component]*child) error {
	switch component {
	case Etcd:
		if c.traffic != nil {
			return nil // it is out of reach from here; the API server waits for it
		}
		return c.poll(ctx, "etcd listens", children, func(ctx context.Context) error {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "tcp", loopback(c.ports.Etcd))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	case APIServer:
		probe, err := c.prober()
		if err != nil {
			return err
		}
		defer probe.CloseIdleConnections()
		return c.poll(ctx, "the API server is ready", children, func(ctx context.Context) error {
			_, err := get(ctx, probe, c.URL()+"/readyz")
			return err
		})
	default:
		return nil
	}
}

// awaitReady waits until the whole cluster works: what its controllers make in each namespace is there in the first
// one, so the controller manager has its credentials and its caches.
func (c Cluster) awaitReady(ctx context.Context, children map[Component]*child) error {
	if c.thin {
		return c.awaitFakeNodes(ctx, children) // nobody else makes anything there
	}
	client, err := c.clientset()
	if err != nil {
		return err
	}
	return c.poll(ctx, "the controllers work", children, func(ctx context.Context) error {
		if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
}

// settle tells components that the start is over, so that they give back the memory that it took. One that does not
// hear of it does so later by itself.
func (c Cluster) settle(children map[Component]*child) error {
	var errs []error
	for _, ch := range children {
		errs = append(errs, ch.Signal(syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// clientset is the administrator's client.
func (c Cluster) clientset() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for cluster %s: %w", c.Name, err)
	}
	return client, nil
}

// poll repeats check until it succeeds. It gives up at once when one of the children has ended: the error then shows
// the end of its log.
func (c Cluster) poll(ctx context.Context, what string, children map[Component]*child, check func(context.Context) error) error {
	return repeat(ctx, what, c.Log("*"), func() error { return c.firstEnded(children) }, check)
}

// repeat repeats check until it succeeds, or until dead says why it never will.
func repeat(ctx context.Context, what, logs string, dead func() error, check func(context.Context) error) error {
	patience, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		probe, done := context.WithTimeout(patience, probeTimeout)
		err := check(probe)
		done()
		if end := dead(); end != nil {
			return end
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience.Done():
			return fmt.Errorf("waited %s until %s: %w: %w; logs are in %s", readyPatience, what, errNotReady, err, logs)
		case <-tick.C:
		}
	}
}

// firstEnded returns the error of the first child, in starting order, that has ended; nil if all live.
func (c Cluster) firstEnded(children map[Component]*child) error {
	for _, component := range c.Components() {
		ch, ok := children[component]
		if !ok {
			continue
		}
		select {
		case <-ch.ended:
		default:
			continue
		}
		end := cause(ch.Log)
		if strings.Contains(end, "address already in use") {
			return fmt.Errorf("%s of %s: %w", component, c.Name, errPortTaken)
		}
		if full := syscall.ENOSPC.Error(); strings.Contains(tail(ch.Log, 1000), full) {
			return fmt.Errorf("%s of %s ended: %s; make room where %s lies, or put the lab elsewhere with --dir", component, c.Name, full, c.dir)
		}
		return fmt.Errorf("%s of %s ended; the end of %s:\n%s", component, c.Name, ch.Log, end)
	}
	return nil
}

// causeLines is how much of a log an error shows.
const causeLines = 10

// cause returns the part of a dead process's log that tells why: the beginning of a panic, else the end.
func cause(log string) string {
	end := tail(log, 1000)
	if at := strings.LastIndex("\n"+end, "\npanic: "); at >= 0 {
		lines := strings.SplitN(end[at:], "\n", causeLines+1)
		return strings.Join(lines[:min(causeLines, len(lines))], "\n")
	}
	return lastLines(end, causeLines)
}

// prober is the administrator's client for single requests to the API server, whose certificate it verifies.
func (c Cluster) prober() (*http.Client, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = probeTimeout
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for cluster %s: %w", c.Name, err)
	}
	return client, nil
}

// get returns the body of a successful GET request.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", url, resp.Status, lastLines(string(body), 5))
	}
	return body, nil
}
