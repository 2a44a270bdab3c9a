// Package exports watches what members export, and feeds the global service table with it.
package exports

import (
	_ "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	_ "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)
