package ads_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// setup is a world, a server, and a way to tell its state.
func setup(t *testing.T) (*world, *place) {
	t.Helper()
	w := newWorld(t)
	return w, serve(t, w, ads.Limits{})
}

func TestStateOfTheWorldSendsAllOfListenersAndClusters(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1", "c=1")
	c := p.SotW(t, "n")
	c.Request(CDS).Equals("a=1", "b=1", "c=1") // empty first request: wildcard
	w.Change(CDS, "b=2")
	c.Next(CDS).Equals("a=1", "b=2", "c=1")
	w.Change(CDS, "c")
	c.Next(CDS).Equals("a=1", "b=2") // absence is deletion
	c.Request(CDS, "a", "unknown").Equals("a=1")
	w.Change(CDS, "b=3")
	c.Quiet() // not asked for any more
	w.Change(CDS, "unknown=1")
	c.Next(CDS).Equals("a=1", "unknown=1") // on demand
	w.Change(CDS, "a=2", "a=1")
	c.Quiet()
}

func TestStateOfTheWorldSendsWhatChangedOfEndpointsAndRoutes(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1", "b=1", "xdstp://hansa/eds/z?x=1=1")
	c := p.SotW(t, "n")
	c.Request(EDS, "a", "b", "late").Equals("a=1", "b=1")
	w.Change(EDS, "b=2")
	c.Next(EDS).Equals("b=2")
	w.Change(EDS, "late=1")
	c.Next(EDS).Equals("late=1")
	w.Change(EDS, "a")
	c.Quiet() // State of the World has no way to say it
	c.Ask(ask{url: EDS, names: []string{"b", "late", "new"}})
	c.Quiet() // nor that there is nothing yet
}

func TestNamesAskedForLaterAreSentAlone(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1", "b=1", "c=1")
	c := p.SotW(t, "n")
	c.Request(EDS, "a").Equals("a=1")
	c.Request(EDS, "a", "b").Equals("b=1")
	c.Ask(ask{url: EDS, names: []string{"b"}})
	c.Request(EDS, "a", "b").Equals("a=1") // dropped meanwhile, so it is sent again
	c.Request(EDS, "*").Equals("c=1")
}

func TestAnOpaqueNameIsANameLikeOthers(t *testing.T) {
	w, p := setup(t)
	name := "xdstp://hansa/envoy.config.endpoint.v3.ClusterLoadAssignment/shop/web"
	w.Change(EDS, name+"=1")
	p.SotW(t, "s").Request(EDS, name).Equals(name + "=1")
	p.Delta(t, "d").Request(EDS, name).Equals(name + "=1")
}

func TestDeltaSaysWhatChangedAndWhatIsGone(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1")
	c := p.Delta(t, "n")
	c.Request(CDS).Equals("a=1", "b=1")
	w.Change(CDS, "a=2", "c=1")
	c.Next(CDS).Equals("a=2", "c=1")
	w.Change(CDS, "b")
	c.Next(CDS).Removed("b").Equals()
	c.Request(EDS, "a", "x").Removed("a", "x").Equals() // known to be absent
	w.Change(EDS, "x=1")
	c.Next(EDS).Equals("x=1")         // on demand
	c.Request(EDS, "x").Equals("x=1") // asked again, sent again
	c.Ask(ask{url: EDS, unsubscribe: []string{"x"}})
	c.Quiet()
	w.Change(EDS, "x=2")
	c.Quiet()
}

func TestDeltaWildcardEnds(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1")
	c := p.Delta(t, "n")
	c.Request(CDS, "*", "a").Equals("a=1", "b=1")
	c.Ask(ask{url: CDS, unsubscribe: []string{"*"}})
	c.Quiet()
	w.Change(CDS, "b=2")
	c.Quiet()
	w.Change(CDS, "a=2")
	c.Next(CDS).Equals("a=2")
}

func TestDeltaResumesOnAnyServer(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1", "c=1")
	have := p.Delta(t, "n").Request(CDS).Equals("a=1", "b=1", "c=1").versions
	w.Change(CDS, "b=2", "c", "d=1")
	other := serve(t, w, ads.Limits{})
	c := other.Delta(t, "n")
	c.Ask(ask{url: CDS, versions: have})
	c.Next(CDS).Equals("b=2", "d=1")
	c.Next(CDS).Removed("c").Equals()
	c.Quiet()
}

func TestStateOfTheWorldResumesWhereThatIsSound(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1")
	w.Change(EDS, "a=1")
	first := p.SotW(t, "n")
	clusters, endpoints := first.Request(CDS).Accept().version, first.Request(EDS, "a").Accept().version

	other := serve(t, w, ads.Limits{})
	c := other.SotW(t, "n")
	c.Ask(ask{url: CDS, version: clusters})
	c.Quiet() // a wildcard says what the client has
	c.Ask(ask{url: EDS, names: []string{"a"}, version: endpoints})
	c.Next(EDS).Equals("a=1") // names do not
	w.Change(CDS, "b=2")
	c.Next(CDS).Equals("a=1", "b=2")

	stale := other.SotW(t, "n")
	stale.Ask(ask{url: CDS, version: clusters})
	stale.Next(CDS).Equals("a=1", "b=2")
}

func TestMakeBeforeBreak(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "old=1")
	w.Change(EDS, "old=1")
	w.Change(LDS, "l=1")
	w.Change(RDS, "r=old")
	s, d := p.SotW(t, "s"), p.Delta(t, "d")
	for _, c := range []*client{s, d} {
		c.Request(CDS, "*").Equals("old=1")
		c.Request(EDS, "*").Equals("old=1")
		c.Request(LDS, "*").Equals("l=1")
		c.Request(RDS, "*").Equals("r=old")
	}
	w.ChangeIn("v", slices.Concat(change(RDS, "r=new"), change(LDS, "l", "m=1"), change(EDS, "old", "new=1"), change(CDS, "old", "new=1"))...)

	s.Next(CDS).Equals("new=1", "old=1") // what is removed stays while it may be used
	s.Next(EDS).Equals("new=1")
	s.Next(LDS).Equals("l=1", "m=1")
	route := s.Next(RDS).Says("r=new")
	s.Quiet() // the client may still use the old route
	route.Accept()
	s.Next(LDS).Equals("m=1")
	s.Next(CDS).Equals("new=1")
	s.Quiet()

	d.Next(CDS).Removed().Equals("new=1")
	d.Next(EDS).Removed().Equals("new=1")
	d.Next(LDS).Removed().Equals("m=1")
	d.Next(RDS).Removed().Equals("r=new")
	d.Next(LDS).Removed("l").Equals()
	d.Next(EDS).Removed("old").Equals()
	d.Next(CDS).Removed("old").Equals()
	d.Quiet()
}

func TestAChangedClusterHasItsEndpointsSentAgain(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1")
	w.Change(EDS, "a=1", "b=1")
	c := p.SotW(t, "n")
	c.Request(CDS).Equals("a=1", "b=1")
	c.Request(EDS, "a", "b").Equals("a=1", "b=1")
	w.Change(CDS, "a=2")
	c.Next(CDS).Equals("a=2", "b=1")
	c.Next(EDS).Equals("a=1")
	c.Quiet()
}

func TestARefusedVersionIsNotSentAgain(t *testing.T) {
	for _, protocol := range []string{"sotw", "delta"} {
		t.Run(protocol, func(t *testing.T) {
			w, p := setup(t)
			w.Change(CDS, "a=1", "b=1")
			w.Change(EDS, "a=1", "b=1")
			c := p.SotW(t, "n")
			if protocol == "delta" {
				c = p.Delta(t, "n")
			}
			c.Request(CDS).Equals("a=1", "b=1")
			c.Request(EDS, "a", "b").Equals("a=1", "b=1")
			w.Change(EDS, "a=bad", "b=2")
			c.Next(EDS).Says("a=bad", "b=2").Refuse(`"a": priorities are not contiguous`)
			c.Quiet()
			w.Change(CDS, "a=2") // warming does not send what was refused
			c.Next(CDS).Accept()
			c.Quiet()

			state := kind(t, p, "n", EDS)
			if !slices.Equal(state.Rejected, []string{"a"}) {
				t.Errorf("rejected %v, want a: the message names it", state.Rejected)
			}
			if state.LastNACK == nil || !strings.Contains(state.LastNACK.Message, "contiguous") || state.LastNACK.At.IsZero() {
				t.Errorf("last NACK is %+v", state.LastNACK)
			}
			if state.ACKVersion == state.Version {
				t.Error("the refused version counts as accepted")
			}
			w.Change(EDS, "a=3")
			c.Next(EDS).Equals("a=3")
			c.Quiet()
			if state := kind(t, p, "n", EDS); len(state.Rejected) > 0 || state.ACKVersion != state.Version {
				t.Errorf("after better content the state is %+v", state)
			}
		})
	}
}

func TestWhatIsAskedForAgainIsSentEvenIfItWasRefused(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=bad", "b=1")
	c := p.Delta(t, "n")
	c.Request(EDS, "a", "b").Says("a=bad", "b=1").Refuse(`"a": no`)
	c.Quiet()
	c.Request(EDS, "a").Equals("a=bad")
	c.Quiet()
}

func TestARefusalBlamesWhatItNames(t *testing.T) {
	w, p := setup(t)
	w.Change(LDS, "web:80=1", "web:8080=1", "my-web:80=1", "x/web:80=1")
	c := p.SotW(t, "n")
	c.Request(LDS).Says("my-web:80=1", "web:80=1", "web:8080=1", "x/web:80=1").Refuse(`bad listeners: "web:8080", "my-web:80"`)
	c.Quiet()
	if state := kind(t, p, "n", LDS); !slices.Equal(state.Rejected, []string{"my-web:80", "web:8080"}) {
		t.Errorf("rejected %v: names that are parts of those in the message are not meant", state.Rejected)
	}
}

// kind returns what is known of one client and type.
func kind(t *testing.T, p *place, node, url string) ads.KindState {
	t.Helper()
	for _, state := range p.Clients() {
		if state.Node != node {
			continue
		}
		for _, k := range state.Kinds {
			if k.Type == url {
				return k
			}
		}
	}
	t.Fatalf("nothing is known of %s and %s", node, url)
	return ads.KindState{}
}

func TestClientsAreShown(t *testing.T) {
	w, p := setup(t)
	w.Change(CDS, "a=1", "b=1")
	c := p.Delta(t, "n1")
	c.Request(CDS).Equals("a=1", "b=1")
	c.Quiet()
	state := p.Clients()[0]
	if state.Node != "n1" || state.View != "v" || state.Protocol != "delta" || state.Identity == "" || state.Since.IsZero() {
		t.Errorf("got %+v", state)
	}
	if k := kind(t, p, "n1", CDS); !k.Wildcard || k.Held != 2 || k.Acked != 2 || k.Lag != 0 || k.Version != k.ACKVersion {
		t.Errorf("got %+v", k)
	}
	w.Change(CDS, "a=2")
	unanswered := c.Next(CDS)
	if k := kind(t, p, "n1", CDS); k.Unanswered != 1 || k.Acked != 1 || k.Lag <= 0 {
		t.Errorf("before the ACK: %+v", k)
	}
	unanswered.Accept()
	c.Quiet()
	if k := kind(t, p, "n1", CDS); k.Unanswered != 0 || k.Lag != 0 || k.Acked != 2 {
		t.Errorf("after the ACK: %+v", k)
	}
}

func TestViewsAreApart(t *testing.T) {
	w, p := setup(t)
	w.admit = func(c ads.Client) (ads.Admission, error) {
		if c.Node.GetId() == "stranger" {
			return ads.Admission{}, errors.New("not a member")
		}
		return ads.Admission{View: c.Node.GetId(), Identity: c.Node.GetId()}, nil
	}
	w.ChangeIn("m1", change(EDS, "a=near")...)
	w.ChangeIn("m2", change(EDS, "a=far")...)
	m1, m2 := p.SotW(t, "m1"), p.SotW(t, "m2")
	m1.Request(EDS, "a").Equals("a=near")
	m2.Request(EDS, "a").Equals("a=far")
	w.ChangeIn("m2", change(EDS, "a=gone far")...)
	m2.Next(EDS).Equals("a=gone far")
	m1.Quiet()
	stranger := p.SotW(t, "stranger")
	stranger.Ask(ask{url: EDS})
	if err := stranger.Fails(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stranger got %v", err)
	}
}

func TestAViewThatFailsSendsItsClientsAway(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1")
	c := p.SotW(t, "n")
	c.Request(EDS, "a").Equals("a=1")
	w.fillErr <- errors.New("lost the table")
	if err := c.Fails(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	p.SotW(t, "n").Request(EDS, "a").Equals("a=1")
}

func TestASlowClientHoldsNobodyUp(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=0", "b=0")
	slow, fast := p.SotW(t, "slow"), p.SotW(t, "fast")
	slow.Request(EDS, "a", "b").Says("a=0", "b=0") // and no answer
	fast.Request(EDS, "a", "b").Equals("a=0", "b=0")
	for i := 1; i <= 200; i++ {
		w.Change(EDS, fmt.Sprintf("a=%d", i))
		fast.Next(EDS).Equals(fmt.Sprintf("a=%d", i))
	}
	k := kind(t, p, "slow", EDS)
	if k.Pending > 1 || k.Unanswered > ads.DefaultLimits().Unanswered {
		t.Errorf("%d names and %d responses wait for a slow client", k.Pending, k.Unanswered)
	}
	seen := 0
	for text := ""; text != "a=200"; seen++ {
		text = slow.Next(EDS).Accept().texts[0]
	}
	if seen > 10 {
		t.Errorf("a slow client got %d versions, want the latest after a few", seen)
	}
}

func TestABurstReachesEveryone(t *testing.T) {
	w, p := setup(t)
	const services, subscribers = 500, 10
	names, texts := make([]string, services), make([]string, services)
	for i := range names {
		names[i] = fmt.Sprintf("s%03d", i)
		texts[i] = names[i] + "=0"
	}
	w.Change(EDS, texts...)
	clients := make([]*client, subscribers)
	for i := range clients {
		clients[i] = p.SotW(t, strconv.Itoa(i))
		clients[i].Request(EDS, names...).Equals(texts...)
	}
	go func() {
		for _, name := range names {
			w.Change(EDS, name+"=1")
		}
	}()
	for _, c := range clients {
		for have := map[string]bool{}; len(have) < services; {
			for _, text := range c.Next(EDS).Accept().texts {
				have[text] = true
			}
		}
		c.Quiet()
	}
}

func TestDrainSendsClientsToOthers(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1")
	c := p.SotW(t, "n")
	c.Request(EDS, "a").Equals("a=1")
	if err := p.Drain(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := c.Fails(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if left := p.Clients(); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1")
	p.SotW(t, "n").Request(EDS, "a").Equals("a=1")
	p.SotW(t, "m").Request(EDS, "a").Equals("a=1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Drain(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, tc := range map[string]struct {
		reason string
		limits ads.Limits
		ask    ask
		want   codes.Code
	}{
		"names":   {"a name costs memory", ads.Limits{Names: 2}, ask{url: EDS, names: []string{"a", "b", "c"}}, codes.ResourceExhausted},
		"name":    {"so does its length", ads.Limits{}, ask{url: EDS, names: []string{long}}, codes.InvalidArgument},
		"message": {"a message is read as a whole", ads.Limits{RequestBytes: 1000}, ask{url: EDS, names: []string{long}}, codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			for _, protocol := range []string{"sotw", "delta"} {
				p := serve(t, newWorld(t), tc.limits)
				c := p.SotW(t, "n")
				if protocol == "delta" {
					c = p.Delta(t, "n")
				}
				c.Ask(tc.ask)
				if err := c.Fails(); status.Code(err) != tc.want {
					t.Errorf("%s: got %v, want %v: %s", protocol, err, tc.want, tc.reason)
				}
			}
		})
	}
}

func TestLimitsOfStreams(t *testing.T) {
	for name, limits := range map[string]ads.Limits{"in all": {Streams: 1}, "of a client": {StreamsPerClient: 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Change(EDS, "a=1")
			p := serve(t, w, limits)
			p.SotW(t, "n").Request(EDS, "a").Equals("a=1")
			second := p.Delta(t, "n")
			_ = second.send(ask{url: EDS, names: []string{"a"}}) // the stream may have ended already
			if err := second.Fails(); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestASilentStreamEnds(t *testing.T) {
	p := serve(t, newWorld(t), ads.Limits{FirstRequest: time.Millisecond})
	if err := p.SotW(t, "n").Fails(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownTypeIsPassedOver(t *testing.T) {
	w, p := setup(t)
	w.Change(EDS, "a=1")
	c := p.Delta(t, "n")
	c.Ask(ask{url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", names: []string{"s"}})
	c.Request(EDS, "a").Equals("a=1")
}

func TestLargeSetsAreDivided(t *testing.T) {
	w := newWorld(t)
	w.Change(EDS, "a=1", "b=1", "c=1")
	p := serve(t, w, ads.Limits{ResponseBytes: 1})
	c := p.Delta(t, "n")
	c.Request(EDS, "*").Equals("a=1")
	c.Next(EDS).Equals("b=1")
	c.Next(EDS).Equals("c=1")
	c.Quiet()
}
