package join

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Annotations and labels that Join leaves, so that a repeated join and an unjoin recognise what is theirs.
const (
	// HubAnnotation on a ServiceAccount in a member is the UID of the hub's namespace in the host cluster.
	HubAnnotation = "hansa.dev/hub-uid"
	// ClusterAnnotation on a Secret in the host names the KubeFedCluster whose token it holds.
	ClusterAnnotation = "hansa.dev/cluster"
	// ManagedByLabel with the value ManagedBy is on everything that Join creates.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "hansa"
)

// ServiceAccountName is the name of the hub's ServiceAccount in a member: KubeFed's <member>-<host>.
func ServiceAccountName(cluster, host string) string {
	return cluster + "-" + host
}

// adminRoleName is KubeFed's name for what it grants its ServiceAccount in a member.
func adminRoleName(serviceAccount string) string {
	return "kubefed-controller-manager:" + serviceAccount
}

// healthRoleName is KubeFed's name for the cluster-scoped rest that a namespaced hub needs in a member.
func healthRoleName(namespace, serviceAccount string) string {
	return "kubefed-controller-manager:" + namespace + ":healthcheck-" + serviceAccount
}

// memberBindingName is the binding of the aggregated role to one hub's ServiceAccount; several hubs may share a member.
func memberBindingName(namespace, serviceAccount string) string {
	return "hansa-member:" + namespace + ":" + serviceAccount
}

// guardName is the name of the admission policy that limits one hub. Unlike RBAC's, it has to be a DNS name.
func guardName(namespace, serviceAccount string) string {
	return "hansa-member." + namespace + "." + serviceAccount
}

// tokenRoleName is the Role that lets the ServiceAccount ask for tokens of its own.
func tokenRoleName(serviceAccount string) string {
	return "hansa-token:" + serviceAccount
}

// CheckNames tells whether a cluster can be registered under a name, by a hub whose cluster is called host. The rules
// are KubeFed's, plus those that Kubernetes would complain about later: the ServiceAccount <cluster>-<host> has to be a
// valid name too.
func CheckNames(cluster, host string) error {
	if cluster == "" {
		return errors.New("a cluster name is required")
	}
	if problems := validation.IsDNS1123Subdomain(cluster); len(problems) > 0 {
		return fmt.Errorf("cluster name %q is no RFC 1123 subdomain name: %s", cluster, strings.Join(problems, "; "))
	}
	if host == "" {
		return errors.New("the host cluster has no name: give --host-cluster-name, or a kubeconfig context with --host-cluster-context")
	}
	if strings.ContainsAny(host, ":/") {
		return fmt.Errorf(`host cluster name %q contains ":" or "/": give one without with --host-cluster-name`, host)
	}
	account := ServiceAccountName(cluster, host)
	if problems := validation.IsDNS1123Subdomain(account); len(problems) > 0 {
		return fmt.Errorf("the ServiceAccount %q, made of the names of the cluster and of the host cluster, is no RFC 1123 subdomain name (%s): give another --host-cluster-name",
			account, strings.Join(problems, "; "))
	}
	return nil
}

// checkSecretName holds a name given by the user against the rule of Kubernetes for Secrets. Empty means generated.
func checkSecretName(name string) error {
	if name == "" {
		return nil
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("secret name %q is no RFC 1123 subdomain name: %s", name, strings.Join(problems, "; "))
	}
	return nil
}
