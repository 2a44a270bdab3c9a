// Package plan decides what to do in each cluster about one federated object.
//
// It is pure: Make compares what is wanted with what was seen and returns one step per cluster; who calls it carries
// the steps out. Inputs come from shared caches and are never modified. The same input gives the same steps.
//
// In the mode Sync, for a cluster that is ready and whose objects are known:
//
//	placed  object in the member                        step
//	yes     none                                        Create
//	yes     labelled kubefed.io/managed=false           None    ManagedLabelFalse
//	yes     being deleted                               Wait    WaitingForRemoval, then Create
//	yes     not labelled, adoption off                  None    AlreadyExists
//	yes     at the recorded version                     None
//	yes     as desired, not at the recorded version     Record
//	yes     anything else                               Update
//	no      none, or not labelled kubefed.io/managed    None
//	no      the host's own namespace                    Unlabel (None while it is being deleted)
//	no      being deleted                               Wait    WaitingForRemoval
//	no      anything else                               Delete  WaitingForRemoval
//
// The mode Remove treats every cluster as not placed; the mode Orphan has Unlabel in place of Delete, and never waits.
//
// What is desired is computed in KubeFed's order: the template, then what the member's object keeps (retention), then
// overrides, then identity and the managed label.
package plan

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/overrides"
)

// Target is the kind of the objects in the members.
type Target struct {
	GVK        schema.GroupVersionKind
	Namespaced bool
}

// IsNamespace reports whether the target is the core kind Namespace, whose objects contain federated objects when the host is a member.
func (t Target) IsNamespace() bool {
	return t.GVK.Group == "" && t.GVK.Kind == "Namespace"
}

// Mode says what is to become of the objects in the members.
type Mode string

const (
	// Sync means: they follow the federated object.
	Sync Mode = "Sync"
	// Remove means: the federated object is being deleted, and they go with it.
	Remove Mode = "Remove"
	// Orphan means: they stay and are no longer managed, because the federated object is being deleted with orphaning or does
	// not exist any more.
	Orphan Mode = "Orphan"
)

// Want is what is wanted of one object, in all clusters.
type Want struct {
	Target Target
	// Object is the content of the federated object; nil (in the mode Orphan) when there is none.
	Object map[string]any
	// Name and Namespace are those of the object in the members; Namespace is empty for kinds without one.
	Name, Namespace string
	// Placed are the clusters where it should exist, sorted.
	Placed []string
	// Overrides are the parsed spec.overrides.
	Overrides overrides.Overrides
	// OverridesError is why spec.overrides did not parse. Nothing is written to placed clusters then, and they report
	// ApplyOverridesFailed; other clusters are not affected.
	OverridesError error
	// Adopt allows taking over objects that are not labelled.
	Adopt bool
	Mode  Mode
	// HostNamespaceUID is, for a namespace, the UID of the host's namespace of this name. A member's object with this
	// UID is that namespace itself, seen through the host joined as a member: it is never deleted.
	HostNamespaceUID types.UID
	// DeleteOptions are those of the annotation kubefed.io/deleteoption.
	DeleteOptions metav1.DeleteOptions
}

// Have is what is known of the object in one cluster.
type Have struct {
	Cluster string
	// Ready says that the member's API can be used.
	Ready bool
	// Synced says that the watch of the kind has listed; SyncError is why not.
	Synced    bool
	SyncError string
	// Object is the object seen in the member; nil when there is none.
	Object *unstructured.Unstructured
	// Labels are those of the object when it was last written, or first seen as recorded; nil when that is not known. They
	// tell labels that the member itself puts on every object from drift.
	Labels map[string]string
	// Recorded is the version recorded for this cluster with the current template and overrides; empty when there is
	// none.
	Recorded string
}

// Verb is what to do in a cluster.
type Verb string

const (
	// None means: nothing.
	None Verb = "None"
	// Create means: create Step.Object. If it turns out to exist, Adopt says how to go on.
	Create Verb = "Create"
	// Update means: replace the object by Step.Object, which carries the UID and the resourceVersion it replaces.
	Update Verb = "Update"
	// Record means: the object is as desired; only remember Step.Version for it.
	Record Verb = "Record"
	// Delete means: delete the object with Step.Options, which hold its UID as a precondition.
	Delete Verb = "Delete"
	// Unlabel means: take the managed label off, under the preconditions Step.UID and Step.ResourceVersion.
	Unlabel Verb = "Unlabel"
	// Wait means: something has to happen in the member, or to the member, first.
	Wait Verb = "Wait"
)

// Step is what to do in one cluster, and what to report of it.
type Step struct {
	Cluster string
	Verb    Verb
	// Object is what to send with Create and Update.
	Object *unstructured.Unstructured
	// UID and ResourceVersion are those of the object that Update, Delete and Unlabel are meant for.
	UID             types.UID
	ResourceVersion string
	// Options go with Delete.
	Options metav1.DeleteOptions
	// Version is the version of the object seen, with None and Record.
	Version string
	// Status and Message are the outcome if the step succeeds: OK after a write, or why there is none.
	Status  status.Code
	Message string
	// Report says whether the cluster belongs into status.clusters: it is placed, or its object is being removed.
	Report bool
}

// Version returns the version of an object as KubeFed records it: gen:N for a kind that counts generations, else
// rv:X with the resourceVersion.
func Version(obj *unstructured.Unstructured) string {
	if generation := obj.GetGeneration(); generation != 0 {
		return "gen:" + strconv.FormatInt(generation, 10)
	}
	return "rv:" + obj.GetResourceVersion()
}
