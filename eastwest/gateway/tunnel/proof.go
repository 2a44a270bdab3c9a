package tunnel

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// proof is what the other side has shown in the handshake, and how it is checked. It may have been good then and not be any
// more: certificates end, are revoked, and lose their authority. A tunnel must not outlive any of it.
type proof struct {
	state    *tls.ConnectionState
	identify IdentifyFunc
	revoked  identity.RevokedFunc // nil: nothing is
	cluster  string               // whom it has to be of; empty: of any
	peer     identity.ID
	issued   time.Time
}

// check finds out who the other side is, as of now. It returns an error, which is an *identity.RefusedError or wraps one, when it is
// no gateway that is wanted.
func (p *proof) check() error {
	id, issued, err := p.identify(p.state)
	switch {
	case err == nil:
	case identity.ReasonOf(err) == "":
		return refuse(identity.ReasonWrongIdentity, "identifying the other gateway: %w", err)
	default:
		return fmt.Errorf("identifying the other gateway: %w", err)
	}
	p.peer, p.issued = id, issued
	switch {
	case p.cluster != "" && (id.Role != identity.RoleGateway || id.Cluster != p.cluster):
		return refuse(identity.ReasonWrongIdentity, "at this address is %s, wanted is a gateway of cluster %s", id, p.cluster)
	case id.Role != identity.RoleGateway:
		return refuse(identity.ReasonWrongIdentity, "%s is no gateway", id)
	case p.revoked != nil && p.revoked(id.Cluster, issued):
		return &identity.RefusedError{Reason: identity.ReasonRevoked, Err: errRevoked}
	}
	return nil
}

func refuse(reason identity.Reason, format string, args ...any) error {
	return &identity.RefusedError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// recheck ends the session when what the other side has shown is not good any more, and returns why.
func (s *session) recheck() error {
	if s.proof.identify == nil {
		return nil
	}
	again := s.proof // several may ask at a time
	again.cluster = s.peer.Cluster
	err := again.check()
	if err != nil {
		s.end(err)
	}
	return err
}
