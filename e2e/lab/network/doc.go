// Package network makes the networks of a lab whose pods run: network namespaces for clusters and nodes, and what
// connects them.
package network
