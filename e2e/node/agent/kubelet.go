package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"

	"github.com/hansa-dev/hansa/e2e/node/podlog"
)

// KubeletPort is where a node serves the kubelet API.
const KubeletPort = 10250

// streamIdle is how long `kubectl exec` may be silent, as with a kubelet.
const streamIdle = 4 * time.Hour

// ServeKubelet serves the part of a kubelet's API that `kubectl logs`, `exec`, `attach` and `port-forward` need, until
// ctx ends. Only the API server may use it: a certificate of the configured authority alone is also what nodes have.
func (a *Agent) ServeKubelet(ctx context.Context) error {
	authorities, err := os.ReadFile(a.config.ClientCAFile)
	if err != nil {
		return fmt.Errorf("reading who may use the kubelet API: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(authorities) {
		return fmt.Errorf("reading who may use the kubelet API: %s holds no certificate", a.config.ClientCAFile)
	}
	address := net.JoinHostPort(a.config.Address.String(), strconv.Itoa(KubeletPort))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serving the kubelet API: %w", err)
	}
	const headerTimeout = 10 * time.Second
	server := &http.Server{
		Handler: onlyAPIServer(a.kubelet()), ReadHeaderTimeout: headerTimeout,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"}},
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	err = server.ServeTLS(listener, a.config.CertFile, a.config.KeyFile)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the kubelet API: %w", err)
}

// apiServerName is the common name of the API server's certificate as a client of kubelets.
const apiServerName = "kube-apiserver-kubelet-client"

// masters is the group of those who may do everything.
const masters = "system:masters"

// onlyAPIServer refuses clients that are neither the API server nor of those who may do everything in the cluster.
func onlyAPIServer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "a client certificate is needed", http.StatusUnauthorized)
			return
		}
		subject := r.TLS.PeerCertificates[0].Subject
		if subject.CommonName != apiServerName && !slices.Contains(subject.Organization, masters) {
			http.Error(w, fmt.Sprintf("%q may not use the kubelet API: only the API server may", subject.CommonName), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *Agent) kubelet() http.Handler {
	pods := a.streams(a.base)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.serveLogs)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/portForward/", a.servePortForward)
	mux.Handle("/", withoutTerminalErrors(pods))
	return mux
}

// streams serves what goes on after a request. What is forwarded ends with ctx.
func (a *Agent) streams(ctx context.Context) http.Handler {
	const creation = 30 * time.Second
	return api.PodHandler(api.PodHandlerConfig{
		RunInContainer: a.Exec, AttachToContainer: a.attach,
		PortForward: func(_ context.Context, namespace, name string, port int32, stream io.ReadWriteCloser) error {
			return a.portForward(ctx, namespace, name, port, stream)
		},
		GetPods: a.GetPods, GetPodsFromKubernetes: a.GetPods,
		StreamIdleTimeout: streamIdle, StreamCreationTimeout: creation,
	}, true)
}

// withoutTerminalErrors makes up for a library that refuses a terminal with a stream for errors, where others just do
// not use that stream.
func withoutTerminalErrors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("tty") == "1" && query.Has("error") {
			query.Del("error")
			r.URL.RawQuery = query.Encode()
		}
		next.ServeHTTP(w, r)
	})
}

// serveLogs answers `kubectl logs`.
func (a *Agent) serveLogs(w http.ResponseWriter, r *http.Request) {
	v, err := a.view(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	options, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	which, err := a.logOf(r.PathValue("namespace"), r.PathValue("pod"), v, r.URL.Query().Get("previous") == "true")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	live := which.live
	if r.URL.Query().Get("follow") != "true" {
		live = nil
	}
	out := flushing{w, http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/plain")
	_ = out.flush() // a client that follows wants to know that there is a log
	if err := podlog.Read(r.Context(), which.path, live, options, out); err != nil {
		a.log.Warn("reading a log", "error", err) // it is too late to tell the client
	}
}

// flushing sends what is written at once.
type flushing struct {
	http.ResponseWriter

	control *http.ResponseController
}

func (f flushing) flush() error { return f.control.Flush() }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err == nil {
		err = f.flush()
	}
	return n, err
}

type chosenLog struct {
	path string
	live *podlog.Log
}

// logOf finds the log of a container's present or last instance, or of the one before.
func (a *Agent) logOf(namespace, name string, v view, previous bool) (chosenLog, error) {
	w := a.find(namespace, name)
	if w == nil {
		return chosenLog{}, errdefs.NotFoundf("pod %s/%s does not run on this node", namespace, name)
	}
	number := v.restarts
	if previous {
		number--
	}
	if !previous && v.last != nil {
		return chosenLog{path: v.last.log.Path(), live: v.last.log}, nil
	}
	path := w.file(v.name, number, ".log")
	if _, err := os.Stat(path); err != nil { //nolint:gosec // G703: a path made of names that are known
		if previous {
			return chosenLog{}, fmt.Errorf("previous terminated container %q in pod %q not found", v.name, name)
		}
		return chosenLog{}, fmt.Errorf("container %q in pod %q is waiting to start", v.name, name)
	}
	return chosenLog{path: path}, nil
}

// attach follows the output of a container for `kubectl attach`. There is no input: containers are started without.
func (a *Agent) attach(ctx context.Context, namespace, name, container string, streams api.AttachIO) error {
	in, err := a.running(namespace, name, container)
	if err != nil {
		return err
	}
	out := streams.Stdout()
	if out == nil {
		return errdefs.InvalidInput("there is no input to a container of the lab: attach to its output, or use exec")
	}
	return podlog.Read(ctx, in.log.Path(), in.log, podlog.Options{Tail: new(int64)}, out)
}
