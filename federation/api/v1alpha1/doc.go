// Package v1alpha1 is the API group hansa.dev/v1alpha1: what Hansa needs to know and KubeFed has no field for.
//
// ClusterInfo tells about a member as a place where services run, ServicePolicy how one global service is to be used.
// The definitions in config/crd are generated from here (`make generate`); what concerns durations is in
// config/crdgen/overlay.yaml.
//
// +kubebuilder:object:generate=true
// +groupName=hansa.dev
package v1alpha1
