package outbound

import (
	"errors"
	"sync/atomic"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/route"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Port is one port of a service.
type Port = connect.Port

// service is one port of a service that is served.
type service struct {
	*connect.Finder

	port   Port
	count  atomic.Int64 // connections, those that are being made included
	flight atomic.Bool  // what clients say at once may go with the request
}

func newService(g *Gateway, p Port) *service {
	return &service{Finder: connect.New(g.options.Connect, p), port: p}
}

// follow takes on what a snapshot says.
func (s *service) follow(snapshot *clusterset.Snapshot, from clusterset.Consumer) {
	found := snapshot.Service(s.port.Key)
	routes := &connect.Routes{Number: route.Number(found, s.port.Name, s.port.Protocol)}
	var why clusterset.Reason
	routes.Priorities, why = route.For(snapshot, from, s.port.Key, s.port.Name, s.port.Protocol)
	if why != clusterset.Used {
		routes.Problem = errors.New(why.Explain())
	}
	routes.Affinity = route.Sticky(found)
	s.flight.Store(found != nil && found.Policy != nil && found.Policy.FirstFlight)
	s.Follow(routes)
}
