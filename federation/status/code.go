// Package status computes what a federated object's status says: one condition, Propagation, and one entry per cluster.
//
// It is pure: the time is an argument. Codes, reasons and field names are KubeFed's; message is Hansa's addition.
package status

// Code says how an object fares in one cluster. It is stored in status.clusters[].status; OK is stored as no field at
// all.
type Code string

// The codes of KubeFed's user guide.
const (
	// OK: the object is as wanted.
	OK Code = ""
	// WaitingForRemoval: the object has been marked for deletion and is not gone yet.
	WaitingForRemoval Code = "WaitingForRemoval"

	// ClusterNotReady: the last health checks of the cluster failed.
	ClusterNotReady Code = "ClusterNotReady"
	// CachedRetrievalFailed: what exists in the cluster is not known, since its watch has not listed.
	CachedRetrievalFailed Code = "CachedRetrievalFailed"
	// ComputeResourceFailed: the template does not make an object.
	ComputeResourceFailed Code = "ComputeResourceFailed"
	// ApplyOverridesFailed: the overrides do not parse or do not fit the object.
	ApplyOverridesFailed Code = "ApplyOverridesFailed"
	// CreationFailed: the cluster refused to create the object.
	CreationFailed Code = "CreationFailed"
	// UpdateFailed: the cluster refused to update the object.
	UpdateFailed Code = "UpdateFailed"
	// DeletionFailed: the cluster refused to delete the object.
	DeletionFailed Code = "DeletionFailed"
	// LabelRemovalFailed: the cluster refused to take the managed label off the object.
	LabelRemovalFailed Code = "LabelRemovalFailed"
	// RetrievalFailed: the object exists but could not be read.
	RetrievalFailed Code = "RetrievalFailed"
	// AlreadyExists: an object of this name exists, is not managed, and may not be adopted.
	AlreadyExists Code = "AlreadyExists"
	// FieldRetentionFailed: fields that the cluster fills in could not be carried over.
	FieldRetentionFailed Code = "FieldRetentionFailed"
	// VersionRetrievalFailed: the recorded version of the object could not be read.
	VersionRetrievalFailed Code = "VersionRetrievalFailed"
	// ClientRetrievalFailed: there is no client for the cluster.
	ClientRetrievalFailed Code = "ClientRetrievalFailed"
	// ManagedLabelFalse: the object says that it must not be managed.
	ManagedLabelFalse Code = "ManagedLabelFalse"

	// CreationTimedOut: the cluster did not answer a create in time.
	CreationTimedOut Code = "CreationTimedOut"
	// UpdateTimedOut: the cluster did not answer an update in time.
	UpdateTimedOut Code = "UpdateTimedOut"
	// DeletionTimedOut: the cluster did not answer a delete in time.
	DeletionTimedOut Code = "DeletionTimedOut"
	// LabelRemovalTimedOut: the cluster did not answer the removal of the managed label in time.
	LabelRemovalTimedOut Code = "LabelRemovalTimedOut"
)

// Recoverable reports whether trying again, with nothing else changed, may succeed. The other codes wait for an event:
// a user's edit, a cluster's health, a watch.
func (c Code) Recoverable() bool {
	switch c {
	case CreationFailed, UpdateFailed, DeletionFailed, LabelRemovalFailed, RetrievalFailed, ClientRetrievalFailed,
		CreationTimedOut, UpdateTimedOut, DeletionTimedOut, LabelRemovalTimedOut:
		return true
	default:
		return false
	}
}

// Reason is the reason of the Propagation condition. Success makes the condition True and is stored as no field at
// all; every other reason makes it False.
type Reason string

// The reasons of KubeFed's user guide.
const (
	// Success: the object is as wanted in every placed cluster.
	Success Reason = ""
	// CheckClusters: at least one cluster is not as wanted; status.clusters says which.
	CheckClusters Reason = "CheckClusters"
	// ClusterRetrievalFailed: the list of clusters could not be read.
	ClusterRetrievalFailed Reason = "ClusterRetrievalFailed"
	// ComputePlacementFailed: spec.placement does not parse.
	ComputePlacementFailed Reason = "ComputePlacementFailed"
	// NamespaceNotFederated: the namespace of the object has no FederatedNamespace.
	NamespaceNotFederated Reason = "NamespaceNotFederated"
)

// PropagationCondition is the type of the only condition that this package writes.
const PropagationCondition = "Propagation"
