// Package api holds the names that Hansa shares with KubeFed and with its members: labels, annotations, finalizers,
// groups and the default namespace. KubeFed v0.10 is the source of every kubefed.io name; they must never change, since
// they are stored in users' clusters.
package api

// Names of KubeFed's API surface.
const (
	// DefaultNamespace is where the hub's own objects live unless --kubefed-namespace says otherwise.
	DefaultNamespace = "kube-federation-system"
	// DefaultConfigName is the name of the KubeFedConfig that the hub reads when none is given.
	DefaultConfigName = "kubefed"
	// FederatedGroup and FederatedVersion are the default group and version of federated types.
	FederatedGroup   = "types.kubefed.io"
	FederatedVersion = "v1beta1"

	// ManagedLabel marks an object in a member as managed (Managed) or as never to be managed (Unmanaged).
	ManagedLabel = "kubefed.io/managed"
	Managed      = "true"
	Unmanaged    = "false"

	// OrphanAnnotation with the value "true" on a federated object keeps the members' objects when it is deleted.
	OrphanAnnotation = "kubefed.io/orphan"
	// DeleteOptionAnnotation holds metav1.DeleteOptions as JSON, used when members' objects are deleted.
	DeleteOptionAnnotation = "kubefed.io/deleteoption"

	// SyncFinalizer keeps a federated object until its objects are gone from the members.
	SyncFinalizer = "kubefed.io/sync-controller"
	// TypeConfigFinalizer keeps a FederatedTypeConfig until its type has stopped.
	TypeConfigFinalizer = "core.kubefed.io/federated-type-config"

	// TokenKey is the key of the bearer token in a member's Secret.
	TokenKey = "token"
	// CAKey is the key of the certificate authority in a service account's token Secret.
	CAKey = "ca.crt"
)

// Names of Hansa's own.
const (
	// AggregateToMemberLabel with the value "true" on a ClusterRole of a member adds its rules to what the hub may do there.
	AggregateToMemberLabel = "hansa.dev/aggregate-to-member"
	// MemberRole is the aggregated ClusterRole that `hansa join` binds to the hub's ServiceAccount in a member.
	MemberRole = "hansa-member"
	// TokenServiceAccountAnnotation on a member's Secret in the hub names the ServiceAccount (namespace/name in the
	// member) whose bound token it holds, so that the hub can renew it. A Secret without it is never renewed: KubeFed's
	// join leaves such Secrets, and their tokens do not end.
	TokenServiceAccountAnnotation = "hansa.dev/service-account" //nolint:gosec // the name of an annotation, not a credential
	// ClusterUIDAnnotation on a KubeFedCluster is the UID of the namespace kube-system in the cluster that was joined.
	// Nothing is deleted from a cluster with another one. KubeFed's registrations have none.
	ClusterUIDAnnotation = "hansa.dev/cluster-uid"
	// TokenExpiryAnnotation on that Secret is the end of the token's validity in RFC 3339.
	TokenExpiryAnnotation = "hansa.dev/token-expiry" //nolint:gosec // the name of an annotation, not a credential
)
