// Package identity says who is who between clusters: certificates with SPIFFE IDs, who signs them, and how they are
// checked.
package identity

import (
	_ "github.com/spiffe/go-spiffe/v2/spiffeid"
	_ "github.com/spiffe/go-spiffe/v2/svid/x509svid"
)
