// Package servicepolicy turns what people say about a service into what the global table and its clients act on: a
// ServicePolicy (FromSpec), and HTTPRoutes and GRPCRoutes of the Gateway API that are attached to its ServiceImport
// (WithRoutes). Support tells which kinds of client act on which field, and RouteStatuses what became of routes.
//
// It is pure, and never fails: what the definitions' rules should have refused counts as not set.
//
// # Routes of the Gateway API
//
// A route holds for a service when a parentRef names the ServiceImport, or names the Service of the same name while the
// route has a ServiceImport among its backends (then it is meant for more than one cluster). A route with another parent,
// a Gateway for example, that only has the ServiceImport as a backend is the business of that parent.
//
//	what the route says                      what becomes of it
//	rules of several routes                  merged, sorted as the Gateway API says
//	PathPrefix /a                            /a and everything under /a/
//	hostnames                                ignored, as for all routes of services
//	a GRPCRoute beside HTTPRoutes            the HTTPRoutes are not accepted: the more specific kind wins
//	route in another namespace than service  not accepted: it would hold for the clients of its namespace only
//	port or sectionName in a parentRef       not accepted: a route holds for all ports of a service
//	filters other than RequestMirror         the rule is dropped, and the condition PartiallyInvalid says so
//	query parameters, session persistence    the rule is dropped
//	retry codes                              502, 503 and 504 together, and 409; else the rule is dropped
//	backend that is no ServiceImport         its share of the requests fails (Nobody), as does that of a backend in another
//	                                         namespace; ResolvedRefs is False
//	requests that no rule matches            go to the service as a whole; the Gateway API would answer 404
//
// Routes of a ServicePolicy come before those of the Gateway API.
package servicepolicy
