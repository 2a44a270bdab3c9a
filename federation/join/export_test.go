package join

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
)

// Account is the hub's identity in a member.
type Account = account

// Evidence is what a cluster tells about itself.
type Evidence = evidence

// Proves holds the evidence against what a hub knows of a member.
var Proves = evidence.proves
