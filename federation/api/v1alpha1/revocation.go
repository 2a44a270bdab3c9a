package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Revocation makes certificates of one cluster no longer good: those that were issued before a moment. It lives in the
// namespace of the hub and has the id of the cluster as its name; the cluster itself may be gone. Every gateway refuses such
// certificates, and ends the tunnels of who has one, as soon as it hears of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:printcolumn:name=before,type=string,JSONPath=`.spec.before`
// +kubebuilder:printcolumn:name=reason,type=string,JSONPath=`.spec.reason`
// +kubebuilder:printcolumn:name=age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be the id of the cluster whose certificates are revoked, as kubectl get clusterinfos shows it: a DNS label such as eu-west-1"
type Revocation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is revoked.
	Spec RevocationSpec `json:"spec"`
}

// RevocationSpec says which certificates of a cluster are no longer good.
type RevocationSpec struct {
	// Before is the moment: certificates issued before it are refused, later ones are not, so the cluster can come back with new
	// ones. Write the time of now to revoke everything that was issued so far.
	Before metav1.Time `json:"before"`
	// Reason is for people.
	//
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
}

// RevocationList is a list of Revocations.
//
// +kubebuilder:object:root=true
type RevocationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Revocation `json:"items"`
}
