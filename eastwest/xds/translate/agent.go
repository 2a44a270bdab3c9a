package translate

import (
	"slices"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Consumes tells whether the policy lets the clients' cluster use the service, exported or not.
func (c Client) Consumes(service *clusterset.Service) bool {
	return service.Policy == nil || service.Policy.Consumers == nil || slices.Contains(service.Policy.Consumers.Clusters, c.From.Cluster)
}

// agent returns the facts about the service that agents are told: all of them where their cluster may consume it, and the
// same for all such clusters; otherwise what their cluster contributes, if it exports the service.
func (c Client) agent(_ *clusterset.Snapshot, service *clusterset.Service) []Message {
	var told *servicepb.Service
	switch {
	case c.Consumes(service):
		told = servicepb.Whole(service)
	case slices.ContainsFunc(service.Sources, func(s clusterset.Source) bool { return s.Cluster == c.From.Cluster }):
		told = servicepb.Part(service, c.From.Cluster)
	default:
		return nil
	}
	return []Message{{Name: servicepb.ResourceName(service.Key), Proto: told}}
}
