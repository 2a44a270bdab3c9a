// Package imports writes the global service table into members: ServiceImports, derived Services with their
// EndpointSlices, and the conditions of ServiceExports.
package imports
