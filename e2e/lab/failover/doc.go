// Package failover shows what clients of a global service notice when something dies, and measures it: three clusters on
// networks of their own, 20 ms apart, with a gateway in each; a service that all of them run; and a client in the first
// that calls it by its global name, at a constant rate, while things are broken.
//
//	Story.SetUp     makes the clusters, joins them with agents, and waits until the service answers
//	Story.Measure   breaks one thing while the client calls, mends it, and tells what became of every call
//	Table           prints that for people
//
// Every call is a connection of its own with a name, and the servers count names: one that was delivered twice is seen.
//
// It runs the programs hansa, hansa-lab and kubectl as people do, so it belongs to those who may know the hub only by
// these.
package failover
