// Package probe asks containers whether they are well: Kubernetes' startup, readiness and liveness probes.
package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Result is the answer to a probe.
type Result struct {
	OK     bool
	Output string // why not
}

func failed(format string, args ...any) Result { return Result{Output: fmt.Sprintf(format, args...)} }

// Target is the container that is asked.
type Target struct {
	Host      string // the pod's address
	Container *corev1.Container
	Exec      func(ctx context.Context, command []string) (output string, code int, err error) // runs a command in it
}

// maxOutput bounds what is kept of an answer.
const maxOutput = 10 << 10

// Ask asks once. It takes no longer than ctx allows.
func Ask(ctx context.Context, handler corev1.ProbeHandler, t Target) Result {
	switch {
	case handler.HTTPGet != nil:
		return httpGet(ctx, handler.HTTPGet, t)
	case handler.TCPSocket != nil:
		return tcpSocket(ctx, handler.TCPSocket, t)
	case handler.Exec != nil:
		return execute(ctx, handler.Exec, t)
	case handler.GRPC != nil:
		return grpcHealth(ctx, handler.GRPC, t)
	}
	return failed("the probe says nothing that can be asked")
}

// Port resolves the port of a container, by number or by name.
func Port(port intstr.IntOrString, c *corev1.Container) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				number = int(p.ContainerPort)
			}
		}
	}
	if number <= 0 || number > 65535 {
		return 0, fmt.Errorf("container %s has no port %s", c.Name, port.String())
	}
	return number, nil
}

// Address is what to connect to.
func (t Target) address(host string, port intstr.IntOrString) (string, error) {
	number, err := Port(port, t.Container)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = t.Host
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}

func tcpSocket(ctx context.Context, action *corev1.TCPSocketAction, t Target) Result {
	address, err := t.address(action.Host, action.Port)
	if err != nil {
		return failed("%v", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return failed("%v", err)
	}
	_ = conn.Close()
	return Result{OK: true}
}

func execute(ctx context.Context, action *corev1.ExecAction, t Target) Result {
	output, code, err := t.Exec(ctx, action.Command)
	switch {
	case ctx.Err() != nil:
		return failed("command timed out: %q", strings.Join(action.Command, " "))
	case err != nil:
		return failed("%v", err)
	case code != 0:
		return failed("%s", output)
	}
	return Result{OK: true, Output: output}
}

// URL is what an httpGet asks for.
func (t Target) URL(action *corev1.HTTPGetAction) (*url.URL, error) {
	address, err := t.address(action.Host, action.Port)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(action.Path)
	if err != nil {
		u = &url.URL{Path: action.Path}
	}
	u.Scheme, u.Host = "http", address
	if action.Scheme != "" {
		u.Scheme = strings.ToLower(string(action.Scheme))
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	return u, nil
}

// Get makes the request of an httpGet.
func Get(ctx context.Context, action *corev1.HTTPGetAction, t Target) (*http.Request, error) {
	u, err := t.URL(action)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("User-Agent", "kube-probe/lab")
	request.Header.Set("Accept", "*/*")
	for _, h := range action.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			request.Host = h.Value
			continue
		}
		request.Header.Add(h.Name, h.Value)
	}
	return request, nil
}

func httpGet(ctx context.Context, action *corev1.HTTPGetAction, t Target) Result {
	request, err := Get(ctx, action, t)
	if err != nil {
		return failed("%v", err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // G402: the certificate is for the Service's name, as for any kubelet
	}
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	response, err := client.Do(request)
	if err != nil {
		return failed("%v", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxOutput))
	if err != nil {
		return failed("reading the answer: %v", err)
	}
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusBadRequest {
		return failed("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return Result{OK: true, Output: string(body)}
}

// sameHost follows redirections within the container; one that leads elsewhere counts as an answer.
func sameHost(request *http.Request, before []*http.Request) error {
	const most = 10
	if request.URL.Hostname() != before[0].URL.Hostname() || len(before) >= most {
		return http.ErrUseLastResponse
	}
	return nil
}

// Times are a probe's times with Kubernetes' defaults.
func Times(p *corev1.Probe) (delay, period, timeout time.Duration) {
	seconds := func(n, otherwise int32) time.Duration {
		if n <= 0 {
			n = otherwise
		}
		return time.Duration(n) * time.Second
	}
	return time.Duration(p.InitialDelaySeconds) * time.Second, seconds(p.PeriodSeconds, 10), seconds(p.TimeoutSeconds, 1)
}
