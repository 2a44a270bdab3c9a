package api

// Names of the Multi-Cluster Services API (KEP-1645) and of what Hansa writes for it into members.
const (
	// MCSGroup is the API group of ServiceExport and ServiceImport.
	MCSGroup = "multicluster.x-k8s.io"
	// ServiceNameLabel on a derived Service and its EndpointSlices names the global service.
	ServiceNameLabel = "multicluster.kubernetes.io/service-name"
	// SourceClusterLabel on an EndpointSlice names the cluster that its endpoints run in.
	SourceClusterLabel = "multicluster.kubernetes.io/source-cluster"
	// DerivedServiceAnnotation on a ServiceImport names the derived Service that carries its ClusterSetIP.
	DerivedServiceAnnotation = "multicluster.kubernetes.io/derived-service"
	// SliceManagedByLabel says who writes an EndpointSlice (KEP-752), and who wrote a derived Service.
	SliceManagedByLabel = "endpointslice.kubernetes.io/managed-by"
	// GatewayPortsAnnotation on a derived Service says at which ports the cluster's gateways take the traffic of its ports, in
	// the form of clusterset.FormatGatewayPorts. It is given once and kept.
	GatewayPortsAnnotation = "hansa.dev/gateway-ports"
	// Controller is the value of SliceManagedByLabel on what Hansa writes.
	Controller = "hansa.dev"
	// ExportAnnotation with the value "true" on a FederatedService exports the service from the clusters it is placed in.
	ExportAnnotation = "hansa.dev/export"
	// ClusterIDProperty is the ClusterProperty (about.k8s.io, KEP-2149) that names a member in the clusterset.
	ClusterIDProperty = "cluster.clusterset.k8s.io"
	// ClustersetDomain is the zone of global service names.
	ClustersetDomain = "clusterset.local"
	// HubLease is the Lease in the hub's namespace that hubs compete for: its time tells when one of them led last.
	HubLease = "hansa-hub"
	// XDSReplicaLabel marks the Leases of hubs that serve xDS, leading or not.
	XDSReplicaLabel = "hansa.dev/xds-replica"
)
