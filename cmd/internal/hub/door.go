package hub

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// door lets in who proves who it is, and puts out whom that no longer holds for: connections last for days, and a cluster may
// be revoked meanwhile.
type door struct {
	credentials.TransportCredentials

	identify func(*peer.Peer) (identity.ID, error)
	log      logr.Logger

	mu     sync.Mutex
	inside map[*guest]struct{}
}

// guest is a connection that was let in.
type guest struct {
	net.Conn

	door *door
	info credentials.AuthInfo
}

func newDoor(secure credentials.TransportCredentials, identify func(*peer.Peer) (identity.ID, error), log logr.Logger) *door {
	return &door{TransportCredentials: secure, identify: identify, log: log, inside: map[*guest]struct{}{}}
}

// ServerHandshake implements credentials.TransportCredentials.
func (d *door) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := d.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // it is gRPC's to report
	}
	g := &guest{Conn: secure, door: d, info: info}
	d.mu.Lock()
	d.inside[g] = struct{}{}
	d.mu.Unlock()
	return g, info, nil
}

// Clone returns the same door: all listeners have one list of who is inside.
func (d *door) Clone() credentials.TransportCredentials { return d }

// Close takes the connection off the list.
func (g *guest) Close() error {
	g.door.mu.Lock()
	delete(g.door.inside, g)
	g.door.mu.Unlock()
	return g.Conn.Close() //nolint:wrapcheck // it is gRPC's to report
}

// recheck puts out who would not be let in any more.
func (d *door) recheck() {
	d.mu.Lock()
	all := make([]*guest, 0, len(d.inside))
	for g := range d.inside {
		all = append(all, g)
	}
	d.mu.Unlock()
	for _, g := range all {
		_, err := d.identify(&peer.Peer{Addr: g.RemoteAddr(), AuthInfo: g.info})
		if err == nil {
			continue
		}
		d.log.Info("A connection is ended, since who has it may not connect any more", "client", g.RemoteAddr().String(), "reason", err.Error())
		_ = g.Close()
	}
}

// recheckPeriod is how often all are checked, whatever happens: certificates end, too.
const recheckPeriod = time.Minute

// watch rechecks whenever something is revoked, until ctx ends.
func (d *door) watch(ctx context.Context, snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}, also func(),
) {
	tick := time.NewTicker(recheckPeriod)
	defer tick.Stop()
	var known []clusterset.Revocation
	for {
		snapshot, changed := snapshots.Current()
		if now := snapshot.Revocations(); !sameRevocations(now, known) {
			known = now
			d.recheck()
			also()
		}
		select {
		case <-changed:
		case <-tick.C:
			d.recheck()
		case <-ctx.Done():
			return
		}
	}
}

func sameRevocations(a, b []clusterset.Revocation) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Cluster != b[i].Cluster || !a[i].Before.Equal(b[i].Before) {
			return false
		}
	}
	return true
}
