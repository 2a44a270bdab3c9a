package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// A revocation is by the clock of the host, not by that of who revokes.
func TestRevokeClock(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1")
	theirs := time.Now().Add(-25 * time.Hour).Truncate(time.Second)
	h.client = interceptor.NewClient(h.client.(client.WithWatch), interceptor.Funcs{
		Create: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
			err := inner.Create(ctx, object, options...)
			object.SetCreationTimestamp(metav1.NewTime(theirs))
			return err
		},
	})
	for range 2 { // the second time there is one
		theirs = theirs.Add(time.Hour)
		if _, _, err := execute(t, h.host, "revoke", "m1", "--yes"); err != nil {
			t.Fatal(err)
		}
		all := &v1alpha1.RevocationList{}
		if err := h.client.List(t.Context(), all); err != nil || len(all.Items) != 1 || !all.Items[0].Spec.Before.Time.Equal(theirs) {
			t.Errorf("%v, %+v; want one before %s", err, all.Items, theirs)
		}
	}
}

// Join tokens of a cluster go with its certificates, whether it is named or its id is; those of others stay.
func TestRevokeTokens(t *testing.T) {
	h := newHub(t)
	h.infos(t, "m1", "m2")
	for _, named := range []string{"m1", "im1"} {
		for _, cluster := range []string{"m1", "m2"} {
			if _, err := enrolment.CreateToken(t.Context(), h.client, api.DefaultNamespace, cluster, 0); err != nil {
				t.Fatal(err)
			}
		}
		out, _, err := execute(t, h.host, "revoke", named, "--yes", "-o", "json")
		var said revoked
		if problem := json.Unmarshal([]byte(out), &said); err != nil || problem != nil || said.JoinTokens != 1 || said.Cluster != "im1" {
			t.Errorf("%s: %v, %v, %s", named, err, problem, out)
		}
		left := &corev1.SecretList{}
		if err := h.client.List(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		for _, secret := range left.Items {
			if strings.HasPrefix(secret.Name, enrolment.TokenPrefix) && string(secret.Data["cluster"]) != "m2" {
				t.Errorf("%s: the token %s is left", named, secret.Name)
			}
		}
	}
}
