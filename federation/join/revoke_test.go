package join_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/join"
)

// apiServer is a host with a clock of its own, which may break.
type apiServer struct {
	client.WithWatch

	now   time.Time
	fails func(verb string, object client.Object) error // nil: nothing does
}

func newAPIServer(t *testing.T, objects ...client.Object) *apiServer {
	t.Helper()
	a := &apiServer{now: time.Now().Add(-24 * time.Hour).Truncate(time.Second)}
	check := func(verb string, object client.Object) error {
		if a.fails == nil {
			return nil
		}
		return a.fails(verb, object)
	}
	a.WithWatch = interceptor.NewClient(fake.NewClientBuilder().WithScheme(schemeOf(t)).WithObjects(objects...).WithStatusSubresource().Build(), interceptor.Funcs{
		Get: func(ctx context.Context, inner client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if err := check("get", object); err != nil {
				return err
			}
			return inner.Get(ctx, key, object, options...)
		},
		Create: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
			if err := check("create", object); err != nil {
				return err
			}
			object.SetCreationTimestamp(metav1.NewTime(a.now))
			return inner.Create(ctx, object, options...)
		},
		Delete: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if err := check("delete", object); err != nil {
				return err
			}
			if _, registration := object.(*corev1b1.KubeFedCluster); registration { // the hub deletes what belongs to it
				_ = inner.Delete(ctx, &v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Namespace: object.GetNamespace(), Name: object.GetName()}})
			}
			return inner.Delete(ctx, object, options...)
		},
	})
	return a
}

func (a *apiServer) revocation(t *testing.T, id string) *v1alpha1.Revocation {
	t.Helper()
	written := &v1alpha1.Revocation{}
	if err := a.Get(t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: id}, written); err != nil {
		t.Fatal(err)
	}
	return written
}

// An unjoin revokes what was issued so far, also when an earlier one has; so far means by the clock of the host.
func TestRevokeCertificates(t *testing.T) {
	t.Parallel()
	host := newAPIServer(t)
	joiner := join.Between(host, nil)
	if err := joiner.RevokeCertificates(t.Context(), hubNamespace, "", true); err != nil {
		t.Errorf("a cluster that never had an id has no certificates: %v", err)
	}
	long := metav1.NewTime(host.now.Add(-time.Hour))
	old := &v1alpha1.Revocation{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "m2"}, Spec: v1alpha1.RevocationSpec{Before: long}}
	if err := host.Create(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m1", "m2"} {
		if err := joiner.RevokeCertificates(t.Context(), hubNamespace, id, true); err != nil {
			t.Fatal(err)
		}
		if got := host.revocation(t, id).Spec.Before; !got.Time.Equal(host.now) {
			t.Errorf("certificates of %s from before %s are not good, want %s", id, got, host.now)
		}
	}
	all := &v1alpha1.RevocationList{}
	if err := host.List(t.Context(), all); err != nil || len(all.Items) != 2 {
		t.Errorf("asking for the time left something behind: %v, %v", all.Items, err)
	}
}

// Without the time of the host nothing is revoked by another clock.
func TestHostTime(t *testing.T) {
	t.Parallel()
	silent := fake.NewClientBuilder().WithScheme(schemeOf(t)).Build() // its objects have no creation time
	if _, err := join.HostTime(t.Context(), silent, hubNamespace); err == nil || !strings.Contains(err.Error(), "does not say what time it is") {
		t.Errorf("of an API server that does not tell: %v", err)
	}
	host := newAPIServer(t)
	host.fails = func(string, client.Object) error { return errors.New("away") }
	if _, err := join.HostTime(t.Context(), host, hubNamespace); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("of one that is away: %v", err)
	}
	if err := join.Between(silent, nil).RevokeCertificates(t.Context(), hubNamespace, "m1", true); err == nil {
		t.Error("revoked by the clock of who unjoins")
	}
}

// registration returns what a host has of a member.
func registration(t *testing.T) []client.Object {
	t.Helper()
	return []client.Object{
		&corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "m1.example", UID: "u1"}},
		&v1alpha1.ClusterInfo{ObjectMeta: metav1.ObjectMeta{Namespace: hubNamespace, Name: "m1.example"}, Status: v1alpha1.ClusterInfoStatus{ClusterID: "m1"}},
	}
}

var options = join.UnjoinOptions{Name: "m1.example", Namespace: hubNamespace}

// An unjoin that cannot find out whose certificates there are changes nothing.
func TestUnjoinUnknownID(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(client.Object) bool{
		"ClusterInfo": func(o client.Object) bool { _, is := o.(*v1alpha1.ClusterInfo); return is },
		"Revocation":  func(o client.Object) bool { _, is := o.(*v1alpha1.Revocation); return is },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newAPIServer(t, registration(t)...)
			host.fails = func(verb string, object client.Object) error {
				if kind(object) {
					return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("any").GroupResource(), object.GetName(), errors.New("no"))
				}
				return nil
			}
			err := join.Between(host, nil).CutOff(t.Context(), options)
			if err == nil || !strings.Contains(err.Error(), "epeat the unjoin") {
				t.Errorf("got %v", err)
			}
			if err := host.Get(t.Context(), client.ObjectKey{Namespace: hubNamespace, Name: "m1.example"}, &corev1b1.KubeFedCluster{}); err != nil {
				t.Errorf("the registration: %v", err)
			}
		})
	}
}

// An unjoin that breaks, wherever it does, has revoked what there was before it forgot the cluster, and finishes when it is
// repeated.
func TestUnjoinInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"", "delete registration", "delete token", "second revocation"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			host := newAPIServer(t, registration(t)...)
			for _, cluster := range []string{"m1.example", "m2.example"} {
				if _, err := enrolment.CreateToken(t.Context(), host, hubNamespace, cluster, 0); err != nil {
					t.Fatal(err)
				}
			}
			times := 0
			host.fails = func(verb string, object client.Object) error {
				var here string
				switch object.(type) {
				case *corev1b1.KubeFedCluster:
					here = verb + " registration"
				case *corev1.Secret:
					here = verb + " token"
				case *v1alpha1.Revocation:
					if verb == "get" {
						times++
						here = []string{"", "first revocation", "second revocation"}[min(times, 2)]
					}
				}
				if here == at && at != "" {
					return errors.New("the laptop was closed")
				}
				return nil
			}
			joiner := join.Between(host, nil)
			err := joiner.CutOff(t.Context(), options)
			host.fails = nil
			if broken := slices.Contains([]string{"delete registration", "delete token", "second revocation"}, at); (err != nil) != broken {
				t.Fatalf("got %v", err)
			}
			if got := host.revocation(t, "m1").Spec.Before; !got.Time.Equal(host.now) {
				t.Errorf("after the interruption, certificates from before %s are not good", got)
			}
			if err != nil {
				host.now = host.now.Add(time.Minute)
				if err := joiner.CutOff(t.Context(), options); err != nil {
					t.Fatal(err)
				}
			}
			if got := host.revocation(t, "m1"); !got.Spec.Before.Time.Equal(host.now) || len(got.Annotations) > 0 {
				t.Errorf("in the end: %+v, %v", got.Spec, got.Annotations)
			}
			left := &corev1.SecretList{}
			if err := host.List(t.Context(), left); err != nil || len(left.Items) != 1 || string(left.Items[0].Data["cluster"]) != "m2.example" {
				t.Errorf("join tokens that are left: %d, %v", len(left.Items), err)
			}
			if err := joiner.CutOff(t.Context(), options); !errors.Is(err, join.ErrNotJoined) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}
