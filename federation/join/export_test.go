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
	Advice          = advice
	ProxyOf         = proxyOf
	AccountOf       = accountOf
	CheckSecretName = checkSecretName
	Loopback        = loopback
)

// Account is the hub's identity in a member.
type Account = account
