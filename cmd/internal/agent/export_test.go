package agent

import (
	"context"
	"io"
	"net/netip"

	"github.com/spf13/cobra"
)

// CheckGateway reads the flags of `hansa agent`.
func CheckGateway(args ...string) (*GatewayOptions, error) {
	o := &GatewayOptions{}
	cmd := &cobra.Command{Use: "agent", SilenceUsage: true, SilenceErrors: true, RunE: func(*cobra.Command, []string) error { return o.check() }}
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	o.register(cmd)
	return o, cmd.Execute()
}

// Places are where a gateway is reached.
func (o *GatewayOptions) Places() (inside, outside netip.Addr) { return o.inside, o.outside }

// What the tests look at from outside.
var (
	SightOf   = sightOf
	PeersOf   = peersOf
	ClusterIn = clusterIn
)

// Group runs parts as a group.
func Group(ctx context.Context, parts map[string]func(context.Context) error) (failed <-chan struct{}, end func() error) {
	g := newGroup(ctx)
	for name, part := range parts {
		g.run(name, part)
	}
	return g.failed(), g.end
}
