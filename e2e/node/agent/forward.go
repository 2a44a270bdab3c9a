package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"

	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// servePortForward answers `kubectl port-forward`. The library does not say when the client has gone; that its handler
// returns then is how the connections into the pod are told.
func (a *Agent) servePortForward(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(a.base)
	defer cancel()
	a.streams(ctx).ServeHTTP(w, r)
}

// portForward connects a stream with a port of a pod, which may listen on the pod's loopback only.
func (a *Agent) portForward(ctx context.Context, namespace, name string, port int32, stream io.ReadWriteCloser) error {
	conn, err := a.dialPod(namespace, name, port)
	if err != nil {
		return err
	}
	relay(ctx, stream, conn)
	return nil
}

func (a *Agent) dialPod(namespace, name string, port int32) (halfCloser, error) {
	w := a.find(namespace, name)
	if w == nil {
		return nil, errdefs.NotFoundf("pod %s/%s does not run on this node", namespace, name)
	}
	w.mu.Lock()
	ns := w.netns
	w.mu.Unlock()
	if ns == nil {
		return nil, errdefs.NotFoundf("pod %s/%s has no network yet", namespace, name)
	}
	target := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)) //nolint:gosec // G115: a port
	const timeout = 10 * time.Second
	conn, err := dialHalf(ns, &net.Dialer{Timeout: timeout}, target)
	if err != nil {
		return nil, fmt.Errorf("connecting to port %d of pod %s/%s: %w", port, namespace, name, err)
	}
	return conn, nil
}

// halfCloser is a connection whose ends can be closed one by one.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func dialHalf(ns *os.File, dialer *net.Dialer, target netip.AddrPort) (halfCloser, error) {
	conn, err := sandbox.DialIn(ns, dialer, "tcp", target)
	if err != nil {
		return nil, err
	}
	half, ok := conn.(halfCloser)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("%T cannot be half closed", conn)
	}
	return half, nil
}

// relay passes on what either side of a connection says until both have said all, and tells each side when the other
// has. Close of the stream ends only what is said to the client. When either side breaks or ctx ends, both are broken.
func relay(ctx context.Context, stream io.ReadWriteCloser, conn halfCloser) {
	defer func() { _ = conn.Close() }()
	end := func() {
		_ = conn.Close()
		if s, ok := stream.(interface{ Reset() error }); ok {
			_ = s.Reset()
		} else {
			_ = stream.Close()
		}
	}
	defer context.AfterFunc(ctx, end)()
	said := make(chan struct{})
	go func() {
		defer close(said)
		passOn(conn, stream, conn.CloseWrite, end)
	}()
	passOn(stream, conn, stream.Close, end)
	<-said
}

// passOn copies until there is no more, and says so.
func passOn(to io.Writer, from io.Reader, finish func() error, broken func()) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = finish()
	}
	if err != nil {
		broken()
	}
}
