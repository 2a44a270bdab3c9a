package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/sync"
)

func TestLoadConfigFromFile(t *testing.T) {
	tests := map[string]struct {
		reason string
		file   string
		says   string // in the error; empty means that it is accepted
	}{
		"Good":    {"KubeFed's file is accepted, and defaulted", "apiVersion: core.kubefed.io/v1beta1\nkind: KubeFedConfig\nspec: {scope: Cluster}\n", ""},
		"Scope":   {"the scope has to be known", "spec: {scope: Galaxy}\n", `spec.scope is "Galaxy"`},
		"Unknown": {"a misspelt field is no config", "spec: {scope: Cluster, sincController: {}}\n", "sincController"},
		"NotYAML": {"neither is what is not YAML", "{", "is not a KubeFedConfig"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			config, err := loadConfig(t.Context(), nil, &Options{ConfigFile: path, Namespace: "hub"}, logr.Discard())
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: got %v, want it to say %q", tt.reason, err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if config.Namespace != "hub" || config.Name != "kubefed" || *config.Spec.ClusterHealthCheck.FailureThreshold != 3 {
				t.Errorf("%s: got %s/%s, %+v", tt.reason, config.Namespace, config.Name, config.Spec.ClusterHealthCheck)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	config := func(scope apiextv1.ResourceScope, adopt corev1b1.ResourceAdoption, workers int64) *corev1b1.KubeFedConfig {
		return &corev1b1.KubeFedConfig{Spec: corev1b1.KubeFedConfigSpec{
			Scope:          scope,
			SyncController: &corev1b1.SyncControllerConfig{AdoptResources: &adopt, MaxConcurrentReconciles: &workers},
		}}
	}
	tests := map[string]struct {
		reason string
		config *corev1b1.KubeFedConfig
		want   sync.Settings
	}{
		"Bare":      {"adoption is the default", &corev1b1.KubeFedConfig{}, sync.Settings{Adopt: true}},
		"Chosen":    {"workers are a floor, adoption can be off", config(apiextv1.ClusterScoped, corev1b1.AdoptResourcesDisabled, 50), sync.Settings{Workers: 50}},
		"Namespace": {"a namespaced control plane keeps to its namespace", config(apiextv1.NamespaceScoped, corev1b1.AdoptResourcesEnabled, 1), sync.Settings{Adopt: true, Limited: true, Workers: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, settings(tt.config)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tt.reason, diff)
			}
		})
	}
}

func TestLease(t *testing.T) {
	duration, deadline, retry := lease(&corev1b1.KubeFedConfig{})
	if duration != 15*time.Second || deadline != 10*time.Second || retry != 5*time.Second {
		t.Errorf("KubeFed's defaults: got %v %v %v", duration, deadline, retry)
	}
	config := &corev1b1.KubeFedConfig{Spec: corev1b1.KubeFedConfigSpec{LeaderElect: &corev1b1.LeaderElectConfig{
		LeaseDuration: &metav1.Duration{Duration: 3 * time.Second},
	}}}
	if duration, deadline, _ = lease(config); duration != 3*time.Second || deadline != 10*time.Second {
		t.Errorf("what is chosen counts, the rest stays: got %v %v", duration, deadline)
	}
}
