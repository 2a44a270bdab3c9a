// Package wire is the codec of what is known of a cluster: how it is kept when nobody watches it.
package wire
