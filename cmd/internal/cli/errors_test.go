package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
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
