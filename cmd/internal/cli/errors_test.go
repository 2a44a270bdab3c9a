package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/join"
)

func TestUnreachable(t *testing.T) {
	group := schema.GroupResource{Resource: "widgets"}
	tests := map[string]struct {
		reason string
		err    error
		want   string
	}{
		"Unauthorized": {reason: "It answered: its running is not in question.", err: apierrors.NewUnauthorized("no"), want: "refuses the credentials"},
		"WrongCA":      {reason: "What to mend is the authority.", err: &url.Error{Err: x509.UnknownAuthorityError{}}, want: "certificate-authority-data"},
		"Forbidden":    {reason: "The answer says all.", err: apierrors.NewForbidden(group, "x", errors.New("no")), want: "answered"},
		"Away":         {reason: "Is it running?", err: errors.New("connection refused"), want: "Check that the cluster runs"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := unreachable("host cluster", &rest.Config{Host: "https://h"}, tc.err)
			if !strings.Contains(got.Error(), tc.want) || !errors.Is(got, tc.err) {
				t.Errorf("%s\ngot %v, want %q in it", tc.reason, got, tc.want)
			}
		})
	}
}

func TestIsNamespaceMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		err    error
		want   bool
	}{
		"Namespace": {reason: "Waiting does not make a namespace.", err: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop"), want: true},
		"Kind": {
			reason: "The kind FederatedNamespace was enabled a moment ago and is not served yet.",
			err:    apierrors.NewGenericServerResponse(404, "post", schema.GroupResource{Group: "types.kubefed.io", Resource: "federatednamespaces"}, "", "", 0, true),
		},
		"Other": {reason: "No answer of an API server.", err: errors.New("namespaces")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isNamespaceMissing(fmt.Errorf("creating: %w", tc.err)); got != tc.want {
				t.Errorf("%s\ngot %t", tc.reason, got)
			}
		})
	}
}

func TestExecuteInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var told strings.Builder
	root := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, _ []string) error {
		cancel()
		return fmt.Errorf("joining m1: %w", cmd.Context().Err())
	}}
	root.SetArgs(nil)
	root.SetErr(&told)
	if code := Execute(ctx, root); code != 130 {
		t.Errorf("exit code %d, want 130 as shells have it", code)
	}
	if !strings.Contains(told.String(), "joining m1") || !strings.Contains(told.String(), "repeated") {
		t.Errorf("what was interrupted, and what to do, is not said: %q", told.String())
	}
}

// TestFollowerPause checks that a source which does not answer is asked less and less often, and one that does at once.
func TestFollowerPause(t *testing.T) {
	f := newFollower(listed{}, nil)
	var last time.Duration
	for range 20 {
		last = f.pause.Step()
	}
	if last < longestPause/2 || last > longestPause+longestPause/2 {
		t.Errorf("the pause after many failures is %s", last)
	}
	f.rest()
	if first := f.pause.Step(); first > 2*firstPause {
		t.Errorf("the pause after an answer is %s", first)
	}
}

// TestNoFederation asks a host cluster that nobody has prepared: whoever asks is told the same, with the next step.
func TestNoFederation(t *testing.T) {
	h := unprepared(t)
	const want = `listing KubeFedClusters: the host cluster (context "hub") has no federation API. Prepare it first: ` +
		"hansa init --host-cluster-context=hub --kubefed-namespace=kube-federation-system"
	for _, args := range [][]string{
		{"get", "clusters"},
		{"get", "services"},
		{"get", "endpoints"},
		{"explain", "service", "shop/web", "--from", "m1"},
		{"xds", "bootstrap", "--cluster", "m1", "--dir", t.TempDir()},
	} {
		if _, _, err := execute(t, h, append(args, "--namespace=shop")...); err == nil || err.Error() != want {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

// unprepared is a host whose API server serves no kind but Pods.
func unprepared(t *testing.T) *host {
	t.Helper()
	answers := map[string]string{
		"/api":    `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis":   `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","kind":"Pod","namespaced":true,"verbs":["list"]}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := io.WriteString(w, answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	scheme, err := join.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: server.URL}
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &host{
		program: Hansa, context: "hub", namespace: api.DefaultNamespace, config: config, client: made,
		archive: exports.NewConfigMaps(made, made, api.DefaultNamespace),
	}
}
