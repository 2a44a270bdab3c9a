package config_test

import (
	"maps"
	"strings"
	"testing"
)

// kubefedConfig is a KubeFedConfig as KubeFed's chart and webhook store it.
const kubefedConfig = `
apiVersion: core.kubefed.io/v1beta1
kind: KubeFedConfig
metadata: {name: kubefed}
spec:
  scope: Cluster
  controllerDuration: {availableDelay: 20s, unavailableDelay: 1m0s, cacheSyncTimeout: 5m0s}
  leaderElect: {leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 5s, resourceLock: configmaps}
  clusterHealthCheck: {period: 10s, failureThreshold: 3, successThreshold: 1, timeout: 3s}
  syncController: {maxConcurrentReconciles: 1, adoptResources: Enabled}
  statusController: {maxConcurrentReconciles: 1}
  featureGates:
  - {name: PushReconciler, configuration: Enabled}
  - {name: RawResourceStatusCollection, configuration: Disabled}
  - {name: SchedulerPreferences, configuration: Enabled}
`

const kubefedCluster = `
apiVersion: core.kubefed.io/v1beta1
kind: KubeFedCluster
metadata: {name: m1}
spec:
  apiEndpoint: https://10.0.0.1:6443
  caBundle: Y2E=
  proxyURL: ""
  secretRef: {name: m1-abc12}
status:
  conditions:
  - {type: Ready, status: "True", lastProbeTime: "2022-01-01T00:00:00Z", reason: ClusterReady, message: /healthz responded with ok}
  kubernetesVersion: v1.25.3
`

const deployments = `
apiVersion: core.kubefed.io/v1beta1
kind: FederatedTypeConfig
metadata: {name: deployments.apps}
spec:
  federatedType: {group: types.kubefed.io, kind: FederatedDeployment, pluralName: federateddeployments, scope: Namespaced, version: v1beta1}
  propagation: Enabled
  targetType: {group: apps, kind: Deployment, pluralName: deployments, scope: Namespaced, version: v1}
status: {observedGeneration: 1, propagationController: Running, statusController: NotRunning}
`

const namespaces = `
apiVersion: core.kubefed.io/v1beta1
kind: FederatedTypeConfig
metadata: {name: namespaces}
spec:
  federatedType: {group: types.kubefed.io, kind: FederatedNamespace, pluralName: federatednamespaces, scope: Namespaced, version: v1beta1}
  propagation: Enabled
  targetType: {kind: Namespace, pluralName: namespaces, scope: Cluster, version: v1}
`

const preference = `
apiVersion: scheduling.kubefed.io/v1alpha1
kind: ReplicaSchedulingPreference
metadata: {name: web}
spec:
  targetKind: FederatedDeployment
  totalReplicas: 9
  clusters: {"*": {weight: 1}, m1: {minReplicas: 1, maxReplicas: 5, weight: 2}}
`

// TestValidation changes one field of a good object at a time: path is set to value (nil removes it), and the error
// must contain want; an empty want means that the object stays valid.
func TestValidation(t *testing.T) {
	const (
		clusters    = "kubefedclusters.core.kubefed.io"
		configs     = "kubefedconfigs.core.kubefed.io"
		types       = "federatedtypeconfigs.core.kubefed.io"
		preferences = "replicaschedulingpreferences.scheduling.kubefed.io"
	)
	base := map[string]string{clusters: kubefedCluster, configs: kubefedConfig, types: deployments, preferences: preference}
	cases := map[string][]struct {
		reason string
		path   string
		value  any
		want   string
	}{
		clusters: {
			{"as KubeFed's join writes it", "", nil, ""},
			{"host:port means https", "spec.apiEndpoint", "10.0.0.1:6443", ""},
			{"a scheme is case-insensitive", "spec.apiEndpoint", "HTTPS://m1:6443", ""},
			{"an address is needed", "spec.apiEndpoint", "", "write the address of the member's API server"},
			{"only http and https reach an API server", "spec.apiEndpoint", "ftp://m1", "write an https:// or http:// address"},
			{"a Secret is needed", "spec.secretRef.name", "", "write the name of the Secret"},
			{"a Secret's name is a DNS name", "spec.secretRef.name", "My_Secret", "write the name of the Secret"},
			{"one known check", "spec.disabledTLSValidations", []any{"SubjectName"}, ""},
			{"both known checks", "spec.disabledTLSValidations", []any{"SubjectName", "ValidityPeriod"}, ""},
			{"* alone", "spec.disabledTLSValidations", []any{"*"}, ""},
			{"* beside another", "spec.disabledTLSValidations", []any{"*", "SubjectName"}, "write '*' alone"},
			{"unknown check", "spec.disabledTLSValidations", []any{"Everything"}, `supported values: "*", "SubjectName", "ValidityPeriod"`},
			{"no proxy", "spec.proxyURL", nil, ""},
			{"socks5 proxy", "spec.proxyURL", "socks5://user:pw@proxy:1080", ""},
			{"other proxy", "spec.proxyURL", "ssh://proxy", "write http://host:port"},
			{"the host part is needed", "spec.proxyURL", "http://", "write http://host:port"},
			{"statuses of a condition are three", "status.conditions", []any{map[string]any{"type": "Ready", "status": "Maybe", "lastProbeTime": "2022-01-01T00:00:00Z"}}, `supported values: "True", "False", "Unknown"`},
		},
		configs: {
			{"as KubeFed stores it", "", nil, ""},
			{"unknown scope", "spec.scope", "Galaxy", `supported values: "Cluster", "Namespaced"`},
			{"scope is needed", "spec.scope", nil, "Required value"},
			{"KubeFed's other lock", "spec.leaderElect.resourceLock", "endpoints", ""},
			{"the lock that is used", "spec.leaderElect.resourceLock", "leases", ""},
			{"lease as short as its renewal", "spec.leaderElect.leaseDuration", "10s", "leaseDuration must be longer than renewDeadline"},
			{"retry within the jitter of the renewal", "spec.leaderElect.retryPeriod", "9s", "renewDeadline must be longer than 1.2 times retryPeriod"},
			{"retry just outside the jitter", "spec.leaderElect.retryPeriod", "8300ms", ""},
			{"duration without a unit", "spec.clusterHealthCheck.period", "10", "write a duration longer than zero"},
			{"duration of zero", "spec.clusterHealthCheck.timeout", "0s", "write a duration longer than zero"},
			{"negative duration", "spec.controllerDuration.availableDelay", "-1s", "write a duration longer than zero"},
			{"duration with several units", "spec.controllerDuration.cacheSyncTimeout", "1h2m3.5s", ""},
			{"threshold of zero", "spec.clusterHealthCheck.failureThreshold", int64(0), "greater than or equal to 1"},
			{"no workers", "spec.syncController.maxConcurrentReconciles", int64(0), "greater than or equal to 1"},
			{"adoption turned off", "spec.syncController.adoptResources", "Disabled", ""},
			{"unknown adoption", "spec.syncController.adoptResources", "Maybe", `supported values: "Enabled", "Disabled"`},
			{"one gate, the others keep their defaults", "spec.featureGates", []any{gate("SchedulerPreferences", "Disabled")}, ""},
			{"no gates", "spec.featureGates", []any{}, ""},
			{"unknown gate", "spec.featureGates", []any{gate("Warp", "Enabled")}, `supported values: "PushReconciler"`},
			{"a gate twice", "spec.featureGates", []any{gate("PushReconciler", "Enabled"), gate("PushReconciler", "Disabled")}, "Duplicate value"},
			{"neither on nor off", "spec.featureGates", []any{gate("PushReconciler", "On")}, `supported values: "Enabled", "Disabled"`},
		},
		types: {
			{"as KubeFed's chart writes it", "", nil, ""},
			{"the name is the target's", "metadata.name", "deployments", "metadata.name must be the plural name"},
			{"a group is part of the name", "spec.targetType.group", "extensions", "metadata.name must be the plural name"},
			{"unknown propagation", "spec.propagation", "On", `supported values: "Enabled", "Disabled"`},
			{"status collection", "spec.statusCollection", "Enabled", ""},
			{"unknown status collection", "spec.statusCollection", "Raw", `supported values: "Enabled", "Disabled"`},
			{"a federated type needs a group of its own", "spec.federatedType.group", "types", "write a group with at least one dot"},
			{"a federated type needs a group", "spec.federatedType.group", nil, "write a group with at least one dot"},
			{"a namespaced target needs a namespaced federated type", "spec.federatedType.scope", "Cluster", "must be the scope of spec.targetType"},
			{"version with a group", "spec.targetType.version", "apps/v1", "write an API version such as v1"},
			{"plural in upper case", "spec.federatedType.pluralName", "FederatedDeployments", "lower-case plural name"},
			{"kind with a space", "spec.targetType.kind", "My Kind", "write a kind such as Deployment"},
			{"unknown scope", "spec.targetType.scope", "Global", `supported values: "Cluster", "Namespaced"`},
			{"a status type of its own", "spec.statusType", map[string]any{"group": "core.kubefed.io", "version": "v1alpha1", "kind": "FederatedServiceStatus", "pluralName": "federatedservicestatuses", "scope": "Namespaced"}, ""},
			{"a state per member", "status.clusters", []any{map[string]any{"name": "m1", "state": "Forbidden", "message": "m"}, map[string]any{"name": "m2", "state": "Running"}}, ""},
			{"unknown state of a member", "status.clusters", []any{map[string]any{"name": "m1", "state": "Sad"}}, `supported values: "Running"`},
			{"unknown controller state", "status.propagationController", "Walking", `supported values: "Running", "NotRunning"`},
		},
		preferences: {
			{"as in KubeFed's user guide", "", nil, ""},
			{"replica sets too", "spec.targetKind", "FederatedReplicaSet", ""},
			{"jobs have no preference", "spec.targetKind", "FederatedJob", `supported values: "FederatedDeployment", "FederatedReplicaSet"`},
			{"fewer than none", "spec.totalReplicas", int64(-1), "greater than or equal to 0"},
			{"max below min", "spec.clusters.m1.maxReplicas", int64(0), "maxReplicas must be at least minReplicas"},
		},
	}
	for definition, rows := range cases {
		schema := newSchema(t, definition)
		for _, row := range rows {
			t.Run(definition+"/"+row.reason, func(t *testing.T) {
				obj := decode(t, base[definition])
				set(obj, row.path, row.value)
				expect(t, schema.validate(t.Context(), obj, nil).ToAggregate(), row.want)
			})
		}
	}
}

// TestNamespaces is the one type whose federated scope differs from its target's.
func TestNamespaces(t *testing.T) {
	schema := newSchema(t, "federatedtypeconfigs.core.kubefed.io")
	obj := decode(t, namespaces)
	expect(t, schema.validate(t.Context(), obj, nil).ToAggregate(), "")
	set(obj, "spec.federatedType.scope", "Cluster")
	expect(t, schema.validate(t.Context(), obj, nil).ToAggregate(), "must be Namespaced for namespaces")
}

// TestScopeIsImmutable updates a KubeFedConfig.
func TestScopeIsImmutable(t *testing.T) {
	schema := newSchema(t, "kubefedconfigs.core.kubefed.io")
	obj, old := decode(t, kubefedConfig), decode(t, kubefedConfig)
	set(obj, "spec.clusterHealthCheck.period", "5s")
	expect(t, schema.validate(t.Context(), obj, old).ToAggregate(), "")
	set(obj, "spec.scope", "Namespaced")
	expect(t, schema.validate(t.Context(), obj, old).ToAggregate(), "the scope of a control plane cannot change")
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want an error with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error %q, want one with %q", err, want)
	}
}

func gate(name, configuration string) map[string]any {
	return map[string]any{"name": name, "configuration": configuration}
}

// set writes value at the dotted path, or removes the field when value is nil.
func set(obj map[string]any, path string, value any) {
	head, rest, deeper := strings.Cut(path, ".")
	switch {
	case deeper:
		set(obj[head].(map[string]any), rest, value)
	case value == nil:
		maps.DeleteFunc(obj, func(key string, _ any) bool { return key == head })
	default:
		obj[head] = value
	}
}
