package config_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/config"
)

// TestAccepted asks the API server's own validation of definitions: structural schemas, rules that compile and stay
// within the cost limits, defaults that are valid.
func TestAccepted(t *testing.T) {
	for name, crd := range internalCRDs(t) {
		t.Run(name, func(t *testing.T) {
			// The registry sets this field before it validates.
			crd.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
			if errs := validation.ValidateCustomResourceDefinition(t.Context(), crd); len(errs) > 0 {
				t.Errorf("the API server would refuse the definition: %v", errs.ToAggregate())
			}
		})
	}
}

// TestSurface pins what scripts and people rely on from the definitions.
func TestSurface(t *testing.T) {
	type surface struct {
		Short   string
		Scope   string
		Version string
		Columns []string
		Status  bool
	}
	want := map[string]surface{
		"clusterpropagatedversions.core.kubefed.io":          {"", "Cluster", "v1alpha1", nil, true},
		"clusterinfos.hansa.dev":                             {"clinfo", "Namespaced", "v1alpha1", []string{"id", "network", "region", "state", "control-plane", "data-plane", "exports", "endpoints", "age"}, true},
		"revocations.hansa.dev":                              {"", "Namespaced", "v1alpha1", []string{"before", "reason", "age"}, false},
		"servicepolicies.hansa.dev":                          {"svcpol", "Namespaced", "v1alpha1", []string{"accepted", "algorithm", "age"}, true},
		"federatedservicestatuses.core.kubefed.io":           {"", "Namespaced", "v1alpha1", nil, false},
		"federatedtypeconfigs.core.kubefed.io":               {"ftc", "Namespaced", "v1beta1", []string{"target", "federated", "propagation", "controller", "age"}, true},
		"kubefedclusters.core.kubefed.io":                    {"kfc", "Namespaced", "v1beta1", []string{"age", "ready", "kubernetes-version"}, true},
		"kubefedconfigs.core.kubefed.io":                     {"", "Namespaced", "v1beta1", []string{"scope", "age"}, false},
		"propagatedversions.core.kubefed.io":                 {"", "Namespaced", "v1alpha1", nil, true},
		"replicaschedulingpreferences.scheduling.kubefed.io": {"rsp", "Namespaced", "v1alpha1", []string{"target", "replicas", "age"}, false},
	}
	crds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]surface{}
	for _, crd := range crds {
		v := crd.Spec.Versions[0]
		s := surface{
			Short: strings.Join(crd.Spec.Names.ShortNames, ","), Scope: string(crd.Spec.Scope), Version: v.Name,
			Status: v.Subresources != nil && v.Subresources.Status != nil,
		}
		for _, c := range v.AdditionalPrinterColumns {
			if c.Priority == 0 {
				s.Columns = append(s.Columns, c.Name)
			}
		}
		got[crd.Name] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names, scopes, columns or subresources changed (-want +got):\n%s", diff)
	}
}

// TestDefaults compares the defaults of a KubeFedConfig with those of KubeFed's defaulting webhook.
func TestDefaults(t *testing.T) {
	got := decode(t, `{apiVersion: core.kubefed.io/v1beta1, kind: KubeFedConfig, metadata: {name: kubefed}, spec: {scope: Cluster}}`)
	newSchema(t, "kubefedconfigs.core.kubefed.io").admit(got)
	want := decode(t, kubefedConfig)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults differ from KubeFed's (-want +got):\n%s", diff)
	}
}

// object is a schema as the API server uses it for one definition.
type object struct {
	structural *structuralschema.Structural
	openapi    schemavalidation.SchemaValidator
	cel        *schemacel.Validator
}

func newSchema(t *testing.T, name string) object {
	t.Helper()
	crd, ok := internalCRDs(t)[name]
	if !ok {
		t.Fatalf("no definition %s", name)
	}
	props := crd.Spec.Validation
	if props == nil {
		props = crd.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openapi, _, err := schemavalidation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return object{structural, openapi, schemacel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// admit prunes and defaults obj in place, as a request is before it is validated.
func (o object) admit(obj map[string]any) {
	pruning.Prune(obj, o.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, o.structural)
	defaulting.Default(obj, o.structural)
}

// validate returns what the API server would refuse in obj as an update of old, or as a creation when old is nil.
func (o object) validate(ctx context.Context, obj, old map[string]any) field.ErrorList {
	o.admit(obj)
	errs := schemavalidation.ValidateCustomResource(nil, obj, o.openapi)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, o.structural, obj)...)
	var oldValue any
	if old != nil {
		o.admit(old)
		oldValue = old
	}
	celErrs, _ := o.cel.Validate(ctx, nil, o.structural, obj, oldValue, celconfig.RuntimeCELCostBudget)
	return append(errs, celErrs...)
}

func internalCRDs(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	crds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*apiextensions.CustomResourceDefinition{}
	for _, crd := range crds {
		apiextv1.SetDefaults_CustomResourceDefinition(crd)
		apiextv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		internal := &apiextensions.CustomResourceDefinition{}
		if err := apiextv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
			t.Fatal(err)
		}
		out[crd.Name] = internal
	}
	return out
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return normalize(out).(map[string]any)
}

// normalize turns whole numbers into int64, as the API server's decoder does.
func normalize(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = normalize(v[k])
		}
	case []any:
		for i := range v {
			v[i] = normalize(v[i])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}
