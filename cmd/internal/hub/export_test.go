package hub

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/exports"
)

// Names for tests.
const (
	Announcement = announcement
	AddressKey   = addressKey
	EnrolmentKey = enrolmentKey
	RootsKey     = rootsKey
)

// Advertised is where clients reach a listener of xDS.
func Advertised(flag string, bound net.Addr) (string, error) { return advertised(flag, bound) }

// Addresses are those of replicas that live, and the names of the Leases of those long gone.
func Addresses(leases []coordinationv1.Lease, now time.Time) (alive, gone []string) {
	living, dead := living(leases, now)
	alive = addresses(living, addressNote)
	for i := range dead {
		gone = append(gone, dead[i].Name)
	}
	return alive, gone
}

// Announce announces one replica once; Leave takes it back.
// After its address, and a space, may stand where it enrols agents.
func Announce(ctx context.Context, c client.Client, namespace, replica, addresses string, leads bool) (leave func() error, err error) {
	address, enrolment, _ := strings.Cut(addresses, " ")
	open, closed := make(chan struct{}), make(chan struct{})
	close(closed)
	a := &announcer{
		client: c, reader: c, namespace: namespace, replica: replica, address: address, enrolment: enrolment,
		roots: func() []byte { return []byte("roots") }, ready: closed, leads: open, log: logr.Discard(),
	}
	if leads {
		a.leads = closed
	}
	return func() error { return a.leave(ctx) }, a.announce(ctx)
}

// GCPercent is how much a heap of a size may grow.
func GCPercent(live uint64) int { return gcPercent(live, garbage, minGC) }

// RestingGCPercent is the same for a hub at rest.
func RestingGCPercent(live uint64) int { return gcPercent(live, restingGarbage, restingGC) }

// Witness lets one leader look at Leases at several times, and returns the addresses that it takes for alive at the last.
func Witness(looks []time.Time, leases [][]coordinationv1.Lease) (alive, gone []string) {
	a := &announcer{}
	for i, now := range looks {
		a.witness(leases[i], now)
		alive, gone = Addresses(leases[i], now)
	}
	return alive, gone
}

// QuietEnd is quietEnd.
var QuietEnd = quietEnd

// Looks returns at which of the looks memory is given back, given what was allocated in each period.
func Looks(periods ...uint64) (givenBack []int) {
	var h heap
	var total uint64
	for i, allocated := range periods {
		total += allocated
		if h.look(1<<20, total) {
			givenBack = append(givenBack, i)
		}
	}
	return givenBack
}

// Door is a door whose credentials do nothing: identify says who may stay.
func Door(identify func(*peer.Peer) (identity.ID, error)) (enter func(net.Conn) (net.Conn, error), recheck func(), inside func() int) {
	d := newDoor(insecure.NewCredentials(), identify, logr.Discard())
	enter = func(conn net.Conn) (net.Conn, error) {
		in, _, err := d.Clone().ServerHandshake(conn)
		return in, err
	}
	return enter, d.recheck, func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.inside)
	}
}

// Teller tells a table of what was observed.
func Teller(t table) (tell func(cluster string, o exports.Observed), run func(context.Context)) {
	made := newTeller(t)
	return made.tell, made.run
}
