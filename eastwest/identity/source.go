package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Source has somebody's own certificate with its key, and the roots by which others are checked. Both change as time goes
// on.
type Source interface {
	x509svid.Source
	x509bundle.Source
	// Changed returns a channel that is closed when either is another than at the time of the call.
	Changed() <-chan struct{}
}

// WorkloadOptions say whose certificates are wanted of a SPIFFE Workload API.
type WorkloadOptions struct {
	// Address is that of the socket: unix:///run/spire/sockets/agent.sock. Empty means the one that SPIFFE_ENDPOINT_SOCKET
	// names.
	Address string
	// TrustDomain is the default one when it is zero.
	TrustDomain spiffeid.TrustDomain
	// Role is whom the certificate has to be for. Cluster is its cluster; empty means whatever the certificate says.
	Role    Role
	Cluster string
	Log     logr.Logger
}

// Workload is a Source that a SPIFFE Workload API feeds, SPIRE's for example.
type Workload struct {
	options WorkloadOptions
	source  *workloadapi.X509Source
	stop    context.CancelFunc
	stopped sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{}
}

var _ Source = (*Workload)(nil)

// OpenWorkload connects to a Workload API, and waits until it has given a certificate or ctx ends. Close it.
func OpenWorkload(ctx context.Context, o WorkloadOptions) (*Workload, error) {
	o.TrustDomain, _, _ = defaults(o.TrustDomain, nil, 0)
	w := &Workload{options: o, changed: make(chan struct{})}
	client := []workloadapi.ClientOption{workloadapi.WithLogger(told{o.Log})}
	if o.Address != "" {
		client = append(client, workloadapi.WithAddr(o.Address))
	}
	var err error
	w.source, err = workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(client...), workloadapi.WithDefaultX509SVIDPicker(w.pick))
	if err != nil {
		return nil, fmt.Errorf("waiting for a certificate of the SPIFFE Workload API at %s: %w. Is its agent running, and this program registered?", w.where(), err)
	}
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.stopped.Go(func() { w.follow(ctx) })
	if _, err := w.GetX509SVID(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Workload) where() string {
	if w.options.Address != "" {
		return w.options.Address
	}
	address, _ := workloadapi.GetDefaultAddress()
	return address
}

// pick returns the certificate that is wanted. When there is none, it returns what there is, which GetX509SVID refuses.
func (w *Workload) pick(svids []*x509svid.SVID) *x509svid.SVID {
	for _, svid := range svids {
		if w.wants(svid.ID) == nil {
			return svid
		}
	}
	return svids[0]
}

// wants returns why a certificate is not the one that is wanted.
func (w *Workload) wants(s spiffeid.ID) error {
	o := &w.options
	id, err := Parse(s)
	switch {
	case err != nil:
		return err
	case id.TrustDomain != o.TrustDomain || id.Role != o.Role || o.Cluster != "" && id.Cluster != o.Cluster:
		return fmt.Errorf("%s is not the role %s of cluster %q in the trust domain %s", s, o.Role, o.Cluster, o.TrustDomain)
	}
	return nil
}

// follow tells those who wait for a change.
func (w *Workload) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.source.Updated():
			w.mu.Lock()
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
		}
	}
}

// GetX509SVID returns the certificate and its key.
func (w *Workload) GetX509SVID() (*x509svid.SVID, error) {
	svid, err := w.source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("the SPIFFE Workload API at %s: %w", w.where(), err)
	}
	if err := w.wants(svid.ID); err != nil {
		return nil, fmt.Errorf("the SPIFFE Workload API at %s gives no certificate that is of use: %w. Register this program under another ID", w.where(), err)
	}
	return svid, nil
}

// GetX509BundleForTrustDomain returns the roots.
func (w *Workload) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	bundle, err := w.source.GetX509BundleForTrustDomain(td)
	if err != nil {
		return nil, fmt.Errorf("the SPIFFE Workload API at %s: %w", w.where(), err)
	}
	return bundle, nil
}

// Changed implements Source.
func (w *Workload) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Close disconnects.
func (w *Workload) Close() error {
	w.stop()
	w.stopped.Wait()
	if err := w.source.Close(); err != nil {
		return fmt.Errorf("leaving the SPIFFE Workload API: %w", err)
	}
	return nil
}

// told passes on what go-spiffe says. It tries again by itself, so nothing of it is an error here.
type told struct{ log logr.Logger }

// Debugf implements go-spiffe's logger.Logger, as the others do.
func (t told) Debugf(format string, args ...any) { t.log.V(1).Info(fmt.Sprintf(format, args...)) }

// Infof is for what is worth knowing.
func (t told) Infof(format string, args ...any) { t.log.V(1).Info(fmt.Sprintf(format, args...)) }

// Warnf is for what will be tried again.
func (t told) Warnf(format string, args ...any) { t.log.Info(fmt.Sprintf(format, args...)) }

// Errorf is for what will be tried again later.
func (t told) Errorf(format string, args ...any) { t.log.Info(fmt.Sprintf(format, args...)) }
