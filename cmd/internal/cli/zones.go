package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// checkZone refuses a --zone that no node can have.
func checkZone(cmd *cobra.Command, zone string) error {
	if problems := validation.IsValidLabelValue(zone); len(problems) > 0 {
		return usage(cmd, "--zone %q: want a zone as the label %s of nodes says it: %s", zone, corev1.LabelTopologyZone, strings.Join(problems, "; "))
	}
	return nil
}

// zonesOf returns where nodes of a cluster are, and where people say that it is, sorted; not nil when the hub has looked.
func zonesOf(info *v1alpha1.ClusterInfo) []string {
	if info == nil || info.Status.ClusterID == "" {
		return nil
	}
	zones := append([]string{}, info.Status.Zones...)
	if info.Spec.Zone != "" {
		zones = append(zones, info.Spec.Zone)
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

// warnZone tells of a zone that is none of the known ones of a cluster; nil means that they are not known. Nodes may be
// about to come, so it is no error.
func (p *program) warnZone(cluster, zone string, known []string) {
	switch {
	case zone == "" || known == nil || slices.Contains(known, zone):
	case len(known) == 0:
		p.warn("no node of cluster %s has a zone, as far as the hub knows; nothing will be in zone %s", cluster, zone)
	default:
		p.warn("no node of cluster %s is in zone %s, as far as the hub knows; its zones are: %s", cluster, zone, strings.Join(known, ", "))
	}
}
