package join

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What the tests look at from outside.
var (
	SharedRoles     = sharedRoles
	MemberGrant     = memberGrant
	AdminGrant      = adminGrant
	NamespacedGrant = namespacedGrant
	PersonalGrants  = personalGrants
	Differs         = differs
	CopyContent     = copyContent
	ProxyOf         = proxyOf
	AccountOf       = accountOf
	CheckSecretName = checkSecretName
	Loopback        = loopback
	Gathered        = gathered
	Guard           = guard
	MayForget       = mayForget
	EndlessToken    = endlessToken
	SharedSecret    = sharedSecret
	AgentObjects    = agentObjects
)

// Account is the hub's identity in a member.
type Account = account

// Reaching returns a Joiner whose member is reached by a client.
func Reaching(member client.Client) *Joiner {
	return &Joiner{member: &Cluster{Name: "m1", client: member}, progress: func(string) {}}
}

// Rehearsing returns the same, writing nothing.
func Rehearsing(member client.Client) *Joiner { return Reaching(member).rehearsal() }

// WithdrawServices is what an unjoin does about global services.
func (j *Joiner) WithdrawServices(ctx context.Context, hub Account) error {
	return j.withdrawServices(ctx, hub)
}

// WithoutVerdicts is what is left of a ServiceExport.
var WithoutVerdicts = withoutVerdicts

// Evidence is what a cluster tells about itself.
type Evidence = evidence

// Proves holds the evidence against what a hub knows of a member.
var Proves = evidence.proves

// Between returns a Joiner of a host and a member that are reached by clients.
func Between(host, member client.Client) *Joiner {
	return &Joiner{
		host: &Cluster{Name: "the host cluster", client: host}, member: &Cluster{Name: "m1", client: member}, progress: func(string) {},
	}
}

// RevokeCertificates is what an unjoin does about a cluster's certificates.
func (j *Joiner) RevokeCertificates(ctx context.Context, namespace, id string, last bool) error {
	return j.revokeCertificates(ctx, UnjoinOptions{Namespace: namespace, Name: id + ".example"}, id, last)
}

// CutOff is what an unjoin does in the host, once it is clear that it may: all of it, from a lookup on.
func (j *Joiner) CutOff(ctx context.Context, o UnjoinOptions) error {
	found, err := j.lookup(ctx, o)
	if err != nil {
		return err
	}
	if found.certified, err = j.certificatesOf(ctx, o); err != nil {
		return err
	}
	if err := j.checkJoined(ctx, o, found, false); err != nil {
		return err
	}
	return j.cutOff(ctx, o, found)
}

// RemoveAgent is what an unjoin does about agents.
func (j *Joiner) RemoveAgent(ctx context.Context, namespace string) error {
	return j.removeAgent(ctx, namespace)
}
