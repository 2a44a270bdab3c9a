package agent_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestGatewayFlags(t *testing.T) {
	t.Parallel()
	enrolled := []string{"--hub=hub:15010", "--cluster=m1", "--token-file=/token", "--ca-file=/ca", "--state-dir=/state", "--inside-address=10.0.0.1"}
	with := func(more ...string) []string { return append(append([]string(nil), enrolled...), more...) }
	without := func(flag string) []string {
		var left []string
		for _, each := range enrolled {
			if !strings.HasPrefix(each, "--"+flag+"=") {
				left = append(left, each)
			}
		}
		return left
	}
	cases := map[string]struct {
		reason string
		args   []string
		err    string
	}{
		"enrolled":        {reason: "As the manifests have it.", args: enrolled},
		"spiffe":          {reason: "Certificates from elsewhere need neither token nor roots nor state.", args: []string{"--hub=hub:15010", "--spiffe-socket=unix:///s", "--inside-address=10.0.0.1"}},
		"join token":      {reason: "The token says the cluster.", args: []string{"--hub=h:1", "--join-token-file=/t", "--ca-file=/ca", "--state-dir=/s", "--inside-address=fd00::1"}},
		"passthrough off": {reason: "Some want no TLS that they cannot see.", args: with("--passthrough-addr=0")},
		"no hub":          {reason: "It would know of nothing.", args: without("hub"), err: "--hub is required"},
		"bad hub":         {reason: "A slip is told at once.", args: with("--hub=hub"), err: `--hub "hub"`},
		"no proof":        {reason: "The hub gives nothing to strangers.", args: without("token-file"), err: "--token-file or --join-token-file is required"},
		"two proofs":      {reason: "It is not said which counts.", args: with("--join-token-file=/t"), err: "do not go together"},
		"no roots":        {reason: "Nobody is trusted at first sight.", args: without("ca-file"), err: "--ca-file is required"},
		"no state":        {reason: "The certificate has to be somewhere.", args: without("state-dir"), err: "--state-dir is required"},
		"no cluster":      {reason: "A ServiceAccount's token does not say it.", args: without("cluster"), err: "--cluster is required"},
		"no inside":       {reason: "Slices have to name an address.", args: without("inside-address"), err: "--inside-address"},
		"everywhere":      {reason: "Slices cannot name 0.0.0.0.", args: with("--inside-address=0.0.0.0"), err: "--inside-address"},
		"outside name":    {reason: "Names are not looked up.", args: with("--outside-address=gw.example.org"), err: "--outside-address"},
		"enrol":           {reason: "A slip is told at once.", args: with("--enrol=hub"), err: "--enrol"},
		"tunnels off":     {reason: "A gateway without tunnels is none.", args: with("--tunnel-addr=0"), err: "--tunnel-addr"},
		"port 0":          {reason: "Others could not know it.", args: with("--passthrough-addr=:0"), err: "--passthrough-addr"},
		"node name":       {reason: "It becomes a name in Kubernetes.", args: with("--node-name=my_node"), err: "--node-name"},
		"spiffe and hub":  {reason: "One signs.", args: with("--spiffe-socket=unix:///s"), err: "--spiffe-socket does not go with"},
		"log":             {reason: "A slip is told at once.", args: with("--log-format=xml"), err: "--log-format"},
		"negative":        {reason: "There is no such time.", args: with("--drain-timeout=-1s"), err: "cannot be negative"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := agent.CheckGateway(c.args...)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s\ngot %v, want %q", c.reason, err, c.err)
			}
		})
	}
}

func TestGatewayDefaults(t *testing.T) {
	t.Parallel()
	o, err := agent.CheckGateway("--hub=h1:15010,h2:15010", "--cluster=m1", "--token-file=/token", "--ca-file=/ca", "--state-dir=/state",
		"--inside-address=::ffff:10.0.0.1", "--dns-addr=0")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"h1:15012", "h2:15012"}, o.Enrol); diff != "" {
		t.Errorf("enrolment is not where the hubs are: %s", diff)
	}
	if o.DNS.On() {
		t.Error("DNS is on, though it was turned off")
	}
	inside, outside := o.Places()
	if want := netip.MustParseAddr("10.0.0.1"); inside != want || outside != want {
		t.Errorf("the gateway is at %v and %v, want %v", inside, outside, want)
	}
}

func TestSight(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		reason string
		state  tunnel.PeerState
		want   clusterset.Health
	}{
		"up":        {reason: "There are tunnels.", state: tunnel.PeerState{Up: true, Tunnels: 1, Since: now}, want: clusterset.Up},
		"new":       {reason: "It takes a moment to build one.", state: tunnel.PeerState{Since: now.Add(-500 * time.Millisecond)}},
		"unreached": {reason: "A moment is enough.", state: tunnel.PeerState{Since: now.Add(-time.Second)}, want: clusterset.Down},
		"lost":      {reason: "It was there, so it is known to be gone.", state: tunnel.PeerState{Since: now, LastHeard: now}, want: clusterset.Down},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := agent.SightOf(&c.state, now).Health; got != c.want {
				t.Errorf("%s\ngot %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	b := clusterset.NewBuilder(0)
	at := func(addr string, tunnelPort uint16, health clusterset.Health) clusterset.Gateway {
		return clusterset.Gateway{Addr: netip.MustParseAddr(addr), Port: 15443, Tunnel: tunnelPort, Health: health}
	}
	b.SetCluster(clusterset.Cluster{ID: "m1", Gateways: []clusterset.Gateway{at("192.0.2.1", 15445, "")}})
	b.SetCluster(clusterset.Cluster{ID: "m2", Gateways: []clusterset.Gateway{
		at("192.0.2.3", 15445, clusterset.Down), at("192.0.2.2", 15445, clusterset.Up), at("192.0.2.4", 0, clusterset.Up),
		{Inside: netip.MustParseAddr("10.2.0.1"), Tunnel: 15445},
	}})
	b.SetCluster(clusterset.Cluster{ID: "m3"})
	want := []tunnel.Peer{
		{Cluster: "m2", Addr: netip.MustParseAddrPort("192.0.2.2:15445")},
		{Cluster: "m2", Addr: netip.MustParseAddrPort("192.0.2.3:15445")}, // or nobody would see that it is back
	}
	if got := agent.PeersOf(b.Publish(), "m1"); !cmp.Equal(got, want, cmp.Comparer(func(a, b tunnel.Peer) bool { return a == b })) {
		t.Errorf("peers %v, want %v", got, want)
	}
}

func TestClusterIn(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"gateway 192.0.2.1:15445 of cluster m2": "m2",
		"cluster m3 through 192.0.2.1:15445":    "m3",
		"http: m2, then m3":                     "own",
		"":                                      "own",
		"the cluster":                           "own",
		"cluster own at 10.1.0.3:8080 of clusters": "own",
	} {
		if got := agent.ClusterIn(place, "own"); got != want {
			t.Errorf("%q is in %q, want %q", place, got, want)
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	waits := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		reason string
		part   func(context.Context) error
		want   string
	}{
		"told":   {reason: "Who ends when told has not failed.", part: waits},
		"fails":  {reason: "One that fails takes the others with it, and is named.", part: func(context.Context) error { return broken }, want: "part: broken"},
		"leaves": {reason: "Who ends untold leaves others without it.", part: func(context.Context) error { return nil }, want: "part: it has ended by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed, end := agent.Group(t.Context(), map[string]func(context.Context) error{"other": waits, "part": c.part})
			if c.want != "" {
				<-failed
			}
			err := end()
			if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
				t.Errorf("%s\ngot %v, want %q", c.reason, err, c.want)
			}
		})
	}
}
