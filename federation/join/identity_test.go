package join_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/join"
)

func TestProves(t *testing.T) {
	const hubUID = types.UID("hub")
	registered := func(uid string) *corev1b1.KubeFedCluster {
		return &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{api.ClusterUIDAnnotation: uid}}}
	}
	account := func(owner string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{join.HubAnnotation: owner}}}
	}
	tests := map[string]struct {
		reason     string
		shown      join.Evidence
		registered *corev1b1.KubeFedCluster
		want       string // part of the refusal; empty: proven
	}{
		"SameCluster":      {reason: "The plain case.", shown: join.Evidence{ClusterUID: "a", Account: account("hub")}, registered: registered("a")},
		"AccountGone":      {reason: "Somebody removed the account by hand; the cluster is still the one.", shown: join.Evidence{ClusterUID: "a"}, registered: registered("a")},
		"OtherCluster":     {reason: "A wrong context, even one that the same hub joined under the same name.", shown: join.Evidence{ClusterUID: "b", Account: account("hub")}, registered: registered("a"), want: "UID b"},
		"OtherHub":         {reason: "Another hub took the account over: it is not ours to delete.", shown: join.Evidence{ClusterUID: "a", Account: account("else")}, registered: registered("a"), want: "another hub"},
		"KubeFed":          {reason: "KubeFed's registrations name no cluster, its accounts no hub.", shown: join.Evidence{ClusterUID: "a", Account: &corev1.ServiceAccount{}}, registered: &corev1b1.KubeFedCluster{}},
		"KubeFedElsewhere": {reason: "Without the account nothing speaks for the cluster.", shown: join.Evidence{ClusterUID: "b"}, registered: &corev1b1.KubeFedCluster{}, want: "kube-federation-system/m1-hub"},
		"Interrupted":      {reason: "An unjoin that was interrupted left the account and no registration.", shown: join.Evidence{ClusterUID: "a", Account: account("hub")}},
		"InterruptedOther": {reason: "Without a registration, the account of another hub proves nothing.", shown: join.Evidence{ClusterUID: "a", Account: account("else")}, want: "another hub"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := join.Proves(tc.shown, tc.registered, hubUID, hub)
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s\ngot %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestMayForget(t *testing.T) {
	other := fmt.Errorf("context %q %w", "hub", join.ErrOtherCluster)
	away := errors.New("connection refused")
	tests := map[string]struct {
		reason  string
		options join.UnjoinOptions
		why     error
		want    string // part of the refusal; empty: allowed
	}{
		"Other":          {reason: "The next step is the right context.", why: other, want: "--cluster-context"},
		"OtherForced":    {reason: "Force only forgets.", options: join.UnjoinOptions{Force: true}, why: other},
		"OtherWorkloads": {reason: "Workloads are never deleted without proof.", options: join.UnjoinOptions{Force: true, DeleteWorkloads: true}, why: other, want: "proves"},
		"Away":           {reason: "A dead member is let go with force only.", why: away, want: "--force"},
		"AwayForced":     {reason: "A dead member is let go with force only.", options: join.UnjoinOptions{Force: true}, why: away},
		"AwayWorkloads":  {reason: "What was asked for cannot be done; that is said before anything is.", options: join.UnjoinOptions{Force: true, DeleteWorkloads: true}, why: away, want: "Nothing was changed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := join.MayForget(t.Context(), tc.options, tc.why)
			if (err == nil) != (tc.want == "") || (err != nil && (!strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.why))) {
				t.Errorf("%s\ngot %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := join.MayForget(ctx, join.UnjoinOptions{Force: true}, context.Canceled); err == nil {
		t.Error("a person who interrupts does not confirm")
	}
}

func TestGathered(t *testing.T) {
	rule := func(resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{"get"}}
	}
	tests := map[string]struct {
		reason    string
		all, part []rbacv1.PolicyRule
		want      bool
	}{
		"Empty":   {reason: "Nothing is gathered yet, even where there is nothing to gather."},
		"Waiting": {reason: "The role is older than the new rules.", all: []rbacv1.PolicyRule{rule("pods")}, part: []rbacv1.PolicyRule{rule("nodes")}},
		"Partly":  {reason: "One rule of two is not all.", all: []rbacv1.PolicyRule{rule("nodes")}, part: []rbacv1.PolicyRule{rule("nodes"), rule("pods")}},
		"Done":    {reason: "Others' rules may be there too.", all: []rbacv1.PolicyRule{rule("pods"), rule("nodes")}, part: []rbacv1.PolicyRule{rule("nodes")}, want: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := join.Gathered(tc.all, tc.part); got != tc.want {
				t.Errorf("%s\ngot %t", tc.reason, got)
			}
		})
	}
}

func TestEndlessToken(t *testing.T) {
	secret := func(kind corev1.SecretType, account string) *corev1.Secret {
		return &corev1.Secret{Type: kind, ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.ServiceAccountNameKey: account}}}
	}
	for name, tc := range map[string]struct {
		reason string
		secret *corev1.Secret
		want   bool
	}{
		"Ours":   {reason: "KubeFed's join makes one.", secret: secret(corev1.SecretTypeServiceAccountToken, "m1-hub"), want: true},
		"Others": {reason: "The token of another hub is another hub's.", secret: secret(corev1.SecretTypeServiceAccountToken, "m1-else")},
		"Opaque": {reason: "An annotation makes no token.", secret: secret(corev1.SecretTypeOpaque, "m1-hub")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := join.EndlessToken(tc.secret, hub); got != tc.want {
				t.Errorf("%s\ngot %t", tc.reason, got)
			}
		})
	}
}

func TestSharedSecret(t *testing.T) {
	cluster := func(name, secret string) corev1b1.KubeFedCluster {
		return corev1b1.KubeFedCluster{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1b1.KubeFedClusterSpec{SecretRef: corev1b1.LocalSecretReference{Name: secret}},
		}
	}
	all := []corev1b1.KubeFedCluster{cluster("m1", "a"), cluster("m2", "b")}
	if join.SharedSecret(all, "m1", "a") {
		t.Error("the member itself does not share with itself")
	}
	if !join.SharedSecret(all, "m1", "b") {
		t.Error("a Secret that m2 uses must stay")
	}
}
