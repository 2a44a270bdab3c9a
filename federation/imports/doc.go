// Package imports writes the global service table into members: ServiceImports, derived Services with their
// EndpointSlices, and the conditions of ServiceExports.
//
// For and Plan decide, and are pure; the Reconciler acts, on the leader only, with one queue per member, so that a slow
// member holds up nobody. What is written where:
//
//	ServiceImport     in every namespace of that name, where the ServicePolicy lets the cluster consume the service
//	derived Service   beside it, without a selector; its addresses are those of the ServiceImport. Headless for a
//	                  headless service
//	EndpointSlices    of the derived Service, each of one source cluster. Where the importing cluster has gateways they
//	                  list these, for every cluster to which they have a way. Without, and with path Direct: the
//	                  cluster's own pods, and those of clusters on the same network as far as the View uses them; of other
//	                  networks then only what gateways reach
//	ServiceExport     its conditions, in every exporting cluster
//
// kube-proxy knows no priorities: all endpoints of the View are listed, whatever their priority. Traffic distribution is
// told on the ServiceImport, and not set on the derived Service: without hints in the slices it would do nothing.
//
// Which port of the gateways is a service's is given once and written on the derived Service (Allocation). From there it comes
// back with the snapshot, as its address does, to gateways too; and only then do slices lead there. Of several gateways
// each has a hint for its own node: kube-proxy there prefers it.
//
// The derived Service and the slices are owned by the ServiceImport, so that the cluster itself removes them with it. A
// ServiceImport that somebody else made is left alone; the exports say so.
package imports
