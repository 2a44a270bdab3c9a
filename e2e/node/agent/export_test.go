package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/node/podlog"
)

// ParseLogOptions is parseLogOptions.
func ParseLogOptions(query url.Values, now time.Time) (podlog.Options, error) {
	return parseLogOptions(query, now)
}

// StatusPatch is statusPatch.
func StatusPatch(current, wanted *corev1.Pod) ([]byte, error) { return statusPatch(current, wanted) }

// SubPath is subPath.
func SubPath(volume, sub string) (string, error) { return subPath(volume, sub) }

// OnlyAPIServer is onlyAPIServer.
func OnlyAPIServer(next http.Handler) http.Handler { return onlyAPIServer(next) }

// SignalAll is signalAll.
func SignalAll(list func() []int, send func(pid int) error) error { return signalAll(list, send) }

// Relay is relay.
func Relay(ctx context.Context, stream io.ReadWriteCloser, conn *net.TCPConn) {
	relay(ctx, stream, conn)
}

// Addresses gives out addresses.
type Addresses struct{ *addresses }

// NewAddresses is newAddresses.
func NewAddresses(pods netip.Prefix) Addresses { return Addresses{newAddresses(pods)} }

// Take is take.
func (a Addresses) Take() (netip.Addr, error) { return a.take() }

// Free is free.
func (a Addresses) Free(addr netip.Addr) { a.free(addr) }

// ShowFiles shows a sequence of contents in a volume.
func ShowFiles(dir string, contents ...map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	v := &volume{path: filepath.Clean(dir), mode: defaultMode}
	for _, content := range contents {
		files := map[string]file{}
		for path, data := range content {
			files[path] = file{data: data, mode: defaultMode}
		}
		if err := v.show(files); err != nil {
			return err
		}
	}
	return nil
}
