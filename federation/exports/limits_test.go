package exports_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

// An API server that sends without end is cut off, and what was known stays.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exports.Options{})
	server := w.serve("c1")
	offer(server, "web", "10.1.0.1")
	w.roll.set(w.member("c1", up))
	w.run()
	w.until("the service", serving("c1", "10.1.0.1"))
	server.Fail(memberapi.Exports, memberapi.Endless)
	w.eventually("cut off", func() bool {
		for _, watch := range w.state("c1").Watches {
			if watch.Kind == "ServiceExport" && watch.State == exports.StateUnreachable && strings.Contains(watch.Message, "MiB that make no object") {
				return true
			}
		}
		return false
	})
	w.until("what was known", serving("c1", "10.1.0.1"))
}

// A watch that never can be continued does not make the hub list all the time.
func TestExpiredForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exports.Options{})
	server := w.serve("c1")
	offer(server, "web", "10.1.0.1")
	server.Fail(memberapi.Slices, memberapi.Expire)
	w.roll.set(w.member("c1", up))
	began := time.Now()
	w.run()
	w.eventually("six lists", func() bool { return server.Requests()["watch endpointslices"] >= 6 })
	if took := time.Since(began); took < 3*time.Second { // pauses of 0.2, 0.4, 0.8, 1.6 and 3.2 s
		t.Errorf("six lists came within %s; the pauses must grow", took)
	}
}

// A member that tells more than can be applied waits, and others do not.
func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		inbox, tell := exports.NewInbox()
		var addresses []string
		for i := range 1000 {
			addresses = append(addresses, fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
		}
		slice := endpoints("web", "web-1", addresses...)
		const all = 1000 // 56 MB
		var told atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for told.Load() < all && ctx.Err() == nil {
				tell[0](ctx, slice)
				told.Add(1)
			}
		}()
		synctest.Wait()
		before := told.Load()
		if before == 0 || before > all/2 {
			t.Fatalf("the first member told %d slices while nobody took them", before)
		}
		tell[1](ctx, slice) // does not block
		if took := inbox.Take(); int64(took) != before+1 {
			t.Errorf("%d were taken, want %d and the other member's", took, before)
		}
		synctest.Wait()
		if told.Load() <= before {
			t.Error("the first member does not go on when there is room")
		}
		cancel()
		<-ended
	})
}

// What is too much of one member is left out, said, and taken in again when it fits.
func TestTooMuch(t *testing.T) {
	p := exports.NewPlay(logr.Discard(), time.Now, "c1", "c2")
	p.Most(3000)
	slices := make([]runtime.Object, 0, 20)
	for i := range 20 {
		slices = append(slices, endpoints("web", fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.0.%d", i)))
	}
	for _, member := range []string{"c1", "c2"} {
		p.Put(member, exports.Services, service("web"))
		p.Put(member, exports.Exports, export("web"))
	}
	for range 3 { // the same again is not more
		p.Put("c2", exports.Slices, slices[0])
	}
	for _, slice := range slices {
		p.Put("c1", exports.Slices, slice)
	}
	p.Publish()
	watched := func(s exports.ClusterState) exports.State { return s.Watches[exports.Slices].State }
	c1, c2 := p.State("c1"), p.State("c2")
	if c1.Endpoints == 0 || c1.Endpoints >= 20 || watched(c1) != exports.StateUnreachable || !p.LeftOut("c1", exports.Slices) {
		t.Errorf("the member with too much is %+v", c1)
	}
	if c2.Endpoints != 1 || watched(c2) != exports.StateRunning || p.LeftOut("c2", exports.Slices) {
		t.Errorf("the other member is %+v", c2)
	}
	p.List("c1", exports.Slices, slices[3:6]...)
	p.Publish()
	if c1 := p.State("c1"); c1.Endpoints != 3 || watched(c1) != exports.StateRunning {
		t.Errorf("the member that has less now is %+v", c1)
	}
}

// A member that exports too many services, or one with too many endpoints, keeps what fits, says so, and hurts nobody else.
func TestTooMany(t *testing.T) {
	type state = exports.ClusterState
	message := func(s state, kind exports.Kind) string {
		if s.Watches[kind].State != exports.StateUnreachable {
			return ""
		}
		return s.Watches[kind].Message
	}
	flood := func(p *exports.Play, member string, services, slices int) {
		for i := range services {
			name := fmt.Sprintf("web-%d", i)
			p.Put(member, exports.Services, service(name))
			p.Put(member, exports.Exports, export(name))
		}
		for i := range slices {
			p.Put(member, exports.Slices, endpoints("web-0", fmt.Sprintf("web-0-%d", i), fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("10.0.1.%d", i)))
		}
		p.Publish()
	}
	cases := []struct {
		reason           string
		services, slices int
		exports, found   int    // of the services and endpoints
		of               string // kind that the state tells of
		says             string
	}{
		{"as many as there may be", 5, 3, 5, 6, "", ""},
		{"too many services", 6, 1, 5, 2, "ServiceExport", "shop/web-5 and others are not used: delete ServiceExports"},
		{"too many endpoints of one service", 2, 4, 2, 6, "EndpointSlice", "service shop/web-0 has more than the 10 endpoints"},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			p := exports.NewPlay(logr.Discard(), time.Now, "c1", "c2")
			p.MostServices(5)
			p.MostEndpoints(10) // a slice with two endpoints counts three
			flood(p, "c1", tc.services, tc.slices)
			flood(p, "c2", 5, 3)
			c1, c2 := p.State("c1"), p.State("c2")
			if c1.Exports != tc.exports || c1.Endpoints != tc.found {
				t.Errorf("the member has %d exports and %d endpoints, want %d and %d", c1.Exports, c1.Endpoints, tc.exports, tc.found)
			}
			for _, kind := range []exports.Kind{exports.Exports, exports.Slices} {
				said := message(c1, kind)
				if want := kind.String() == tc.of; (said != "") != want || want && !strings.Contains(said, tc.says) || p.LeftOut("c1", kind) != want {
					t.Errorf("of its %ss it is said: %q", kind, said)
				}
			}
			if c2.Exports != 5 || c2.Endpoints != 6 || p.LeftOut("c2", exports.Exports) || p.LeftOut("c2", exports.Slices) {
				t.Errorf("the other member is %+v", c2)
			}
		})
	}
}

// What is the same as before, or less, is always taken in, and what went makes room.
func TestTooManyMakesRoom(t *testing.T) {
	p := exports.NewPlay(logr.Discard(), time.Now, "c1")
	p.MostServices(1)
	p.MostEndpoints(5)
	p.Put("c1", exports.Services, service("web"))
	p.Put("c1", exports.Exports, export("web"))
	p.Put("c1", exports.Exports, export("web")) // again
	p.Put("c1", exports.Slices, endpoints("web", "web-1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"))
	p.Put("c1", exports.Slices, endpoints("web", "web-1", "10.0.0.1", "10.0.0.9", "10.0.0.3", "10.0.0.4"))
	p.Put("c1", exports.Slices, endpoints("web", "web-1", "10.0.0.1"))
	p.Put("c1", exports.Slices, endpoints("web", "web-2", "10.0.0.2", "10.0.0.3"))
	p.Publish()
	if s := p.State("c1"); s.Endpoints != 3 || p.LeftOut("c1", exports.Slices) || p.LeftOut("c1", exports.Exports) {
		t.Fatalf("what fits was left out: %+v", s)
	}
	p.Put("c1", exports.Slices, endpoints("db", "web-1", "10.0.0.1")) // moves to another service
	p.Gone("c1", exports.Slices, "shop", "web-2")
	p.Put("c1", exports.Slices, endpoints("web", "web-3", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"))
	p.Gone("c1", exports.Exports, "shop", "web")
	p.Put("c1", exports.Services, service("db"))
	p.Put("c1", exports.Exports, export("db"))
	p.Publish()
	if s := p.State("c1"); s.Endpoints != 1 || s.Exports != 1 || p.LeftOut("c1", exports.Slices) || p.LeftOut("c1", exports.Exports) {
		t.Errorf("what went makes no room: %+v", s)
	}
}
