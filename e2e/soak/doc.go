// Package soak has gateways of three clusters work for a while, in one process and on loopback, with everything that may
// happen to them happening: what stays behind in goroutines, descriptors or memory is a leak, what clients notice when
// nothing happens is a bug, and so is a request that a pod has seen twice. It is a test; -soak says for how long.
package soak
