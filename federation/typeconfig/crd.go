// Package typeconfig turns FederatedTypeConfigs into running types: the CRD of the federated kind, and the start and
// stop of its propagation. CRDFor, ForTarget and Defaults are pure; names follow KubeFed v0.10.
package typeconfig

import (
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// Limits of a federated object's overrides. The API server bounds the cost of a CRD's CEL rules from them, so they have
// to exist; they are far above what fits a sensible object, and an object stored before they existed is not refused
// for fields that did not change.
const (
	maxOverrides        = 2000
	maxClusterOverrides = 500
	maxPathLength       = 1024
)

// Printer columns of every federated kind.
const (
	propagatedPath = `.status.conditions[?(@.type=="Propagation")].status`
	reasonPath     = `.status.conditions[?(@.type=="Propagation")].reason`
)

// CRDFor returns the CustomResourceDefinition of the federated kind that the FederatedTypeConfig names: KubeFed's
// schema (spec.template, placement, overrides, retainReplicas; status with the Propagation condition and one entry per
// cluster), plus a message per cluster, printer columns and rules that refuse override paths which KubeFed refuses only
// later, while it reconciles. The result depends on the spec of the FederatedTypeConfig alone and is a new object.
//
// The CRD carries the short names of KubeFed's chart when the target is a default type; a caller that knows the
// target's own short names from discovery sets Names.ShortNames to ShortNames of it.
func CRDFor(tc *corev1b1.FederatedTypeConfig) *apiextv1.CustomResourceDefinition {
	federated := tc.Spec.FederatedType
	scope := apiextv1.ClusterScoped
	if tc.GetFederatedNamespaced() {
		scope = apiextv1.NamespaceScoped
	}
	return &apiextv1.CustomResourceDefinition{
		TypeMeta: metav1.TypeMeta{APIVersion: apiextv1.SchemeGroupVersion.String(), Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{
			Name: federated.PluralName + "." + federated.Group,
		},
		Spec: apiextv1.CustomResourceDefinitionSpec{
			Group: federated.Group,
			Scope: scope,
			Names: apiextv1.CustomResourceDefinitionNames{
				Kind:       federated.Kind,
				Plural:     federated.PluralName,
				ShortNames: defaultShortNames(tc.Spec.TargetType),
			},
			Versions: []apiextv1.CustomResourceDefinitionVersion{{
				Name:    federated.Version,
				Served:  true,
				Storage: true,
				Schema:  &apiextv1.CustomResourceValidation{OpenAPIV3Schema: objectSchema()},
				Subresources: &apiextv1.CustomResourceSubresources{
					Status: &apiextv1.CustomResourceSubresourceStatus{},
				},
				AdditionalPrinterColumns: []apiextv1.CustomResourceColumnDefinition{
					{
						Name: "Propagated", Type: "string", JSONPath: propagatedPath,
						Description: "Whether every placed cluster has the object as wanted.",
					},
					{
						Name: "Reason", Type: "string", JSONPath: reasonPath,
						Description: "Why it is not propagated; empty when it is.",
					},
					{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"},
				},
			}},
		},
	}
}

// objectSchema is the schema of a whole federated object. The spec is required, as in KubeFed: its absence in an object
// derived from a kind without spec (a ConfigMap) is always a mistake.
func objectSchema() *apiextv1.JSONSchemaProps {
	return &apiextv1.JSONSchemaProps{
		Type: "object",
		Properties: map[string]apiextv1.JSONSchemaProps{
			"apiVersion": {Type: "string"},
			"kind":       {Type: "string"},
			"metadata":   {Type: "object"},
			"spec":       specSchema(),
			"status":     statusSchema(),
		},
		Required: []string{"spec"},
	}
}

func specSchema() apiextv1.JSONSchemaProps {
	return object(map[string]apiextv1.JSONSchemaProps{
		"template":  describe(anyObject(), "The object to create in the placed clusters, without name and namespace."),
		"placement": describe(placementSchema(), "The clusters that get the object. Without clusters and clusterSelector: none."),
		"overrides": describe(overridesSchema(), "What differs from the template in single clusters."),
		// KubeFed has it only for kinds with spec.replicas. A field more does no harm, and the pure function has no
		// schema of the target to look into.
		"retainReplicas": {
			Type:        "boolean",
			Description: "Whether spec.replicas of an object that exists in a cluster is left to that cluster (to a HorizontalPodAutoscaler).",
		},
	})
}

func placementSchema() apiextv1.JSONSchemaProps {
	expression := object(map[string]apiextv1.JSONSchemaProps{
		"key":      {Type: "string"},
		"operator": {Type: "string"},
		"values":   list(apiextv1.JSONSchemaProps{Type: "string"}),
	}, "key", "operator")
	selector := object(map[string]apiextv1.JSONSchemaProps{
		"matchExpressions": list(expression),
		"matchLabels": {
			Type:                 "object",
			AdditionalProperties: &apiextv1.JSONSchemaPropsOrBool{Allows: true, Schema: &apiextv1.JSONSchemaProps{Type: "string"}},
		},
	})
	cluster := object(map[string]apiextv1.JSONSchemaProps{"name": {Type: "string"}}, "name")
	return object(map[string]apiextv1.JSONSchemaProps{
		"clusters":        describe(list(cluster), "Clusters by name. When given, even empty, clusterSelector is ignored."),
		"clusterSelector": describe(selector, "Clusters by the labels of their KubeFedCluster. {} selects all."),
	})
}

func overridesSchema() apiextv1.JSONSchemaProps {
	patch := object(map[string]apiextv1.JSONSchemaProps{
		"op": {Type: "string", Pattern: "^(add|remove|replace)?$", Description: "add, remove or replace (the default)."},
		"path": {
			Type:         "string",
			MaxLength:    new(int64(maxPathLength)),
			Description:  "JSON pointer into the template, e.g. /spec/replicas.",
			XValidations: pathRules(),
		},
		"value": {XPreserveUnknownFields: new(true), Nullable: true, Description: "The value for add and replace; any JSON."},
	}, "path")
	patches := list(patch)
	patches.MaxItems = new(int64(maxClusterOverrides))
	overrides := list(object(map[string]apiextv1.JSONSchemaProps{
		"clusterName":      {Type: "string"},
		"clusterOverrides": patches,
	}))
	overrides.MaxItems = new(int64(maxOverrides))
	return overrides
}

// pathRules refuse override paths that KubeFed refuses while it reconciles (the forbidden ones) or silently applies to
// another place (those that are no JSON pointer). One rule per path: the API server's cost budget is per rule.
func pathRules() apiextv1.ValidationRules {
	rules := apiextv1.ValidationRules{{
		Rule:    `self.startsWith('/')`,
		Message: "an override path is a JSON pointer: it starts with '/', e.g. /spec/replicas",
		Reason:  new(apiextv1.FieldValueInvalid),
	}}
	for _, path := range []string{"/kind", "/metadata/name", "/metadata/namespace", "/metadata/generateName"} {
		rules = append(rules, apiextv1.ValidationRule{
			Rule:    "self != '" + path + "'",
			Message: path + " is the same in every cluster and cannot be overridden",
			Reason:  new(apiextv1.FieldValueForbidden),
		})
	}
	return rules
}

func statusSchema() apiextv1.JSONSchemaProps {
	condition := object(map[string]apiextv1.JSONSchemaProps{
		"type":               {Type: "string"},
		"status":             {Type: "string"},
		"reason":             {Type: "string"},
		"lastUpdateTime":     {Type: "string", Format: "date-time"},
		"lastTransitionTime": {Type: "string", Format: "date-time"},
	}, "type", "status")
	cluster := object(map[string]apiextv1.JSONSchemaProps{
		"name":         {Type: "string"},
		"status":       {Type: "string", Description: "KubeFed's code; empty when the cluster has the object as wanted."},
		"message":      {Type: "string", Description: "What the cluster answered, or what is being waited for."},
		"remoteStatus": anyObject(),
	}, "name")
	return object(map[string]apiextv1.JSONSchemaProps{
		"observedGeneration": {Type: "integer", Format: "int64"},
		"conditions":         list(condition),
		"clusters":           list(cluster),
	})
}

// object is a schema of an object with the given fields.
func object(fields map[string]apiextv1.JSONSchemaProps, required ...string) apiextv1.JSONSchemaProps {
	return apiextv1.JSONSchemaProps{Type: "object", Properties: fields, Required: required}
}

// anyObject is a schema of an object whose fields are kept and not looked at.
func anyObject() apiextv1.JSONSchemaProps {
	return apiextv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}
}

// list is a schema of a list of items.
func list(item apiextv1.JSONSchemaProps) apiextv1.JSONSchemaProps {
	return apiextv1.JSONSchemaProps{Type: "array", Items: &apiextv1.JSONSchemaPropsOrArray{Schema: &item}}
}

func describe(schema apiextv1.JSONSchemaProps, text string) apiextv1.JSONSchemaProps {
	schema.Description = text
	return schema
}
