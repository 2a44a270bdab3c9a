package join_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/join"
)

func TestCheckNames(t *testing.T) {
	tests := map[string]struct {
		reason        string
		cluster, host string
		want          string // part of the error; empty: none
	}{
		"Plain":       {reason: "Names of contexts made for Kubernetes are fine.", cluster: "m1", host: "hub"},
		"Dots":        {reason: "A subdomain name is allowed, not only a label.", cluster: "eu-west.example.com", host: "kind-hub.1"},
		"NoName":      {reason: "Somebody has to say which cluster.", host: "hub", want: "a cluster name is required"},
		"UpperCase":   {reason: "Object names are in lower case.", cluster: "Paris", host: "hub", want: `"Paris" is no RFC 1123`},
		"Underscore":  {reason: "A context of a cloud often has underscores.", cluster: "gke_x_y", host: "hub", want: "RFC 1123"},
		"HostMissing": {reason: "A kubeconfig without a current context leaves the host without a name.", cluster: "m1", want: "--host-cluster-name"},
		"HostSlash":   {reason: "KubeFed refuses hosts with a slash, as in an EKS context.", cluster: "m1", host: "arn:aws/x", want: "--host-cluster-name"},
		"HostUpper":   {reason: "KubeFed would fail only when it creates the ServiceAccount.", cluster: "m1", host: "Hub", want: `ServiceAccount "m1-Hub"`},
		"TooLong":     {reason: "The ServiceAccount has the length of both names.", cluster: strings.Repeat("a", 200), host: strings.Repeat("b", 60), want: "another --host-cluster-name"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := join.CheckNames(tc.cluster, tc.host)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("%s\nunexpected error: %v", tc.reason, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%s\nerror %v does not contain %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestServiceAccountName(t *testing.T) {
	if got := join.ServiceAccountName("cluster2", "cluster1"); got != "cluster2-cluster1" {
		t.Errorf("KubeFed names the ServiceAccount <member>-<host>; got %q", got)
	}
}

func TestCheckSecretName(t *testing.T) {
	if err := join.CheckSecretName(""); err != nil {
		t.Errorf("an empty name means a generated one: %v", err)
	}
	if err := join.CheckSecretName("Token"); err == nil {
		t.Error("a name that Kubernetes refuses is refused before anything is written")
	}
}

func TestAccountOf(t *testing.T) {
	otherwise := join.Account{Namespace: "kube-federation-system", Name: "m1-hub"}
	tests := map[string]struct {
		reason     string
		annotation string
		want       join.Account
	}{
		"Ours":    {reason: "The Secret knows the ServiceAccount, whatever --host-cluster-name says at unjoin.", annotation: "fed/m1-other", want: join.Account{Namespace: "fed", Name: "m1-other"}},
		"KubeFed": {reason: "KubeFed's Secrets carry no annotation; the names follow from its rules.", want: otherwise},
		"Broken":  {reason: "An annotation that is no namespace/name is not followed.", annotation: "m1-other", want: otherwise},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
			if tc.annotation != "" {
				secret.Annotations[api.TokenServiceAccountAnnotation] = tc.annotation
			}
			if diff := cmp.Diff(tc.want, join.AccountOf(secret, otherwise)); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestLoopback(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://127.0.0.1:6443": true, "https://localhost:6443": true, "https://[::1]:6443": true,
		"https://10.0.0.1:6443": false, "https://api.example.com": false, "://": false,
	} {
		if got := join.Loopback(endpoint); got != want {
			t.Errorf("Loopback(%q) = %t, want %t", endpoint, got, want)
		}
	}
}
