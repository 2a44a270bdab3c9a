package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// papers are who this gateway is, and by whom others are checked.
type papers struct {
	identity.Source

	ready      <-chan struct{} // closed once there is a certificate
	foreign    bool            // not signed by the hub
	refused    func(error)     // is told when the hub refuses the certificate
	hurry      func()          // has another one asked for
	collectors []prometheus.Collector
}

// newPapers has certificates asked for, and renewed.
func (o *GatewayOptions) newPapers(helpers *group, log logr.Logger) (*papers, error) {
	if o.SPIFFESocket != "" {
		return o.workload(helpers, log), nil
	}
	agent, err := enrolment.NewAgent(enrolment.AgentOptions{
		Dir: filepath.Join(o.StateDir, "identity"), RootsFile: o.CAFile, JoinTokenFile: o.JoinToken, AccountTokenFile: o.AccountToken,
		Enroll: func() []string { return o.Enrol }, Renew: func() []string { return o.Hubs },
		Cluster: o.Cluster, Role: identity.RoleGateway, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	helpers.run("identity", agent.Run)
	return &papers{
		Source: agent, ready: agent.Ready(), refused: agent.Refused, hurry: agent.Hurry, collectors: agent.Collectors(),
	}, nil
}

// workload has certificates of a SPIFFE Workload API.
func (o *GatewayOptions) workload(helpers *group, log logr.Logger) *papers {
	ready := make(chan struct{})
	p := &papers{ready: ready, foreign: true, refused: func(error) {}, hurry: func() {}}
	helpers.run("identity", func(ctx context.Context) error {
		source, err := identity.OpenWorkload(ctx, identity.WorkloadOptions{Address: o.SPIFFESocket, Role: identity.RoleGateway, Log: log})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if err != nil {
			return fmt.Errorf("--spiffe-socket: %w", err)
		}
		p.Source = source
		close(ready)
		<-ctx.Done()
		return source.Close()
	})
	return p
}

// id is who this gateway is, by its certificate.
func (p *papers) id() (identity.ID, error) {
	svid, err := p.GetX509SVID()
	if err != nil {
		return identity.ID{}, fmt.Errorf("reading the own certificate: %w", err)
	}
	id, err := identity.Parse(svid.ID)
	switch {
	case err != nil:
		return id, fmt.Errorf("reading the own certificate: %w", err)
	case id.Role != identity.RoleGateway:
		return id, fmt.Errorf("the own certificate is for %s, which is no gateway", id)
	}
	return id, nil
}

// renewAfter has another certificate asked for if those issued before a time are not good any more, and the own one is.
func (p *papers) renewAfter(revoked func(issued time.Time) bool) {
	svid, err := p.GetX509SVID()
	if err == nil && revoked(identity.Issued(svid.Certificates[0])) {
		p.hurry()
	}
}

// peering is how gateways prove to each other who they are.
func (p *papers) peering(revoked identity.RevokedFunc, protocol string) identity.Peering {
	return identity.Peering{Own: p, Roots: p, ALPN: []string{protocol}, Revoked: revoked, Foreign: p.foreign}
}
