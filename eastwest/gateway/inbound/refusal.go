package inbound

import (
	"fmt"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Refusal is why a stream is refused, as metrics and logs have it.
type Refusal string

// The refusals.
const (
	NoGateway   Refusal = "no-gateway"   // the other side proved to be something else
	Revoked     Refusal = "revoked"      // its certificate is no longer good
	NotMember   Refusal = "not-a-member" // its cluster is not in the service table, or nothing is yet
	NotAllowed  Refusal = "not-allowed"  // its cluster may not use the service
	NotExported Refusal = "not-exported" // this cluster exports no such service
	NoPort      Refusal = "no-port"      // the service has no such port
	NotReady    Refusal = "not-ready"    // no pod is
	Unreachable Refusal = "unreachable"  // no pod that is ready takes the connection
	TooMany     Refusal = "limit"        // there are all the streams that there may be
	Gone        Refusal = "gone"         // the other side has left meanwhile
)

// refusal is a Refusal and what the other side is told.
type refusal struct {
	why     Refusal
	code    tunnel.Code
	message string
}

func (r *refusal) Error() string { return r.message }

// refuse returns why a service is not used.
func (h *Handler) refuse(reason clusterset.Reason, r *tunnel.Request, from string) *refusal {
	no := func(why Refusal, code tunnel.Code, format string, a ...any) *refusal {
		return &refusal{why, code, fmt.Sprintf(format, a...)}
	}
	own := h.options.Cluster
	switch reason {
	case clusterset.NotAllowed:
		return no(NotAllowed, tunnel.Forbidden, "the ServicePolicy of %s does not list cluster %s", r.Service, from)
	case clusterset.PortNotExposed:
		return no(NoPort, tunnel.NotFound, "service %s has no port %d in cluster %s", r.Service, r.Port, own)
	case clusterset.NotReady:
		return no(NotReady, tunnel.NoEndpoint, "nothing of service %s is ready in cluster %s", r.Service, own)
	default:
		return no(NotExported, tunnel.NotFound, "cluster %s exports no service %s", own, r.Service)
	}
}
