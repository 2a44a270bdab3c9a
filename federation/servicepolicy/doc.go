// Package servicepolicy turns what people say about a service (ServicePolicy, and routes of the Gateway API) into what
// the global table and its clients act on.
package servicepolicy

import (
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
