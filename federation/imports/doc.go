// Package imports writes the global service table into members: ServiceImports, derived Services with their
// EndpointSlices, and the conditions of ServiceExports.
//
// For and Plan decide, and are pure; the Reconciler acts, on the leader only, with one queue per member, so that a slow
// member holds up nobody. What is written where:
//
//	ServiceImport     in every namespace of that name, where the ServicePolicy lets the cluster consume the service
//	derived Service   beside it, without a selector; its addresses are those of the ServiceImport. Headless for a
//	                  headless service
//	EndpointSlices    of the derived Service, each of one source cluster: the cluster's own pods, and those of clusters
//	                  on the same network as far as the View uses them. Of other networks there is nothing until the
//	                  cluster has a gateway
//	ServiceExport     its conditions, in every exporting cluster
//
// kube-proxy knows no priorities: all endpoints of the View are listed, whatever their priority. Traffic distribution is
// told on the ServiceImport, and not set on the derived Service: without hints in the slices it would do nothing.
//
// The derived Service and the slices are owned by the ServiceImport, so that the cluster itself removes them with it. A
// ServiceImport that somebody else made is left alone; the exports say so.
package imports
