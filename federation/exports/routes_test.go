package exports_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/exports"
)

// Routes are read once they can be, each kind by itself, and nobody waits for those that cannot.
func TestFollowRoutes(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	type moment struct {
		after      time.Duration
		http, grpc bool
	}
	for name, c := range map[string]struct {
		served   map[string]time.Duration // when a kind is defined
		readable map[string]time.Duration // when the hub may read it
		want     []moment
		watched  string // kinds, in the order in which they were
	}{
		"there from the start": {
			want:    []moment{{time.Second, true, true}},
			watched: "HTTPRoute GRPCRoute ",
		},
		"defined later": {
			served:  map[string]time.Duration{"HTTPRoute": 25 * time.Second, "GRPCRoute": 25 * time.Second},
			want:    []moment{{24 * time.Second, false, false}, {31 * time.Second, true, true}},
			watched: "HTTPRoute GRPCRoute ",
		},
		"one is never defined": {
			served:  map[string]time.Duration{"GRPCRoute": never},
			want:    []moment{{time.Second, true, false}, {time.Minute, true, false}},
			watched: "HTTPRoute ",
		},
		"one may not be read until somebody allows it": {
			readable: map[string]time.Duration{"HTTPRoute": 25 * time.Second},
			want:     []moment{{11 * time.Second, false, true}, {24 * time.Second, false, true}, {50 * time.Second, true, true}},
			watched:  "GRPCRoute HTTPRoute ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, watched := time.Now(), ""
				controllers := &exports.Controllers{Log: logr.Discard()}
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					ended <- controllers.FollowRoutes(ctx, exports.RouteHost{
						Served: func(kind string) bool { return time.Since(start) >= c.served[kind] },
						Read: func(ctx context.Context, object client.Object) error {
							wait := time.NewTimer(c.readable[kindOf(object)] - time.Since(start))
							defer wait.Stop()
							select {
							case <-wait.C:
								return nil
							case <-ctx.Done():
								return ctx.Err()
							}
						},
						Watch: func(object client.Object) error {
							watched += kindOf(object) + " "
							return nil
						},
					})
				}()
				for _, m := range c.want {
					<-time.After(m.after - time.Since(start)) // on the bubble's clock
					synctest.Wait()
					if http, grpc := controllers.ReadsRoutes(); http != m.http || grpc != m.grpc {
						t.Errorf("after %s HTTPRoutes and GRPCRoutes are read: %t, %t; want %t, %t", m.after, http, grpc, m.http, m.grpc)
					}
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if watched != c.watched {
					t.Errorf("watched are %q; want %q", watched, c.watched)
				}
			})
		})
	}
}

func kindOf(object client.Object) string {
	if fmt.Sprintf("%T", object) == "*v1.GRPCRoute" {
		return "GRPCRoute"
	}
	return "HTTPRoute"
}
