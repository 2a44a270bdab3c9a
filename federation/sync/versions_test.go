package sync_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1a1 "sigs.k8s.io/kubefed/pkg/apis/core/v1alpha1"

	"github.com/hansa-dev/hansa/federation/status"
	fedsync "github.com/hansa-dev/hansa/federation/sync"
)

func versions(template, overrides string, pairs ...string) corev1a1.PropagatedVersionStatus {
	s := corev1a1.PropagatedVersionStatus{TemplateVersion: template, OverrideVersion: overrides}
	for i := 0; i < len(pairs); i += 2 {
		s.ClusterVersions = append(s.ClusterVersions, corev1a1.ClusterObjectVersion{ClusterName: pairs[i], Version: pairs[i+1]})
	}
	return s
}

func TestNextVersions(t *testing.T) {
	both := []string{"m1", "m2"}
	tests := map[string]struct {
		reason  string
		before  corev1a1.PropagatedVersionStatus
		placed  []string
		answers []fedsync.Answer
		want    corev1a1.PropagatedVersionStatus
	}{
		"First": {
			"what was written is recorded, sorted by cluster", versions("", ""), both,
			[]fedsync.Answer{{Cluster: "m2", Version: "rv:7"}, {Cluster: "m1", Version: "gen:1"}},
			versions("t", "o", "m1", "gen:1", "m2", "rv:7"),
		},
		"Away": {
			"a cluster that did not answer keeps what was recorded for the same template", versions("t", "o", "m1", "rv:1", "m2", "rv:2"), both,
			[]fedsync.Answer{{Cluster: "m1", Version: "rv:3"}, {Cluster: "m2", Code: status.ClusterNotReady}},
			versions("t", "o", "m1", "rv:3", "m2", "rv:2"),
		},
		"NewTemplate": {
			"with another template nothing is known of it, so that it is updated on its return", versions("old", "o", "m1", "rv:1", "m2", "rv:2"), both,
			[]fedsync.Answer{{Cluster: "m1", Version: "rv:3"}, {Cluster: "m2", Code: status.ClusterNotReady}},
			versions("t", "o", "m1", "rv:3"),
		},
		"Late": {
			"an answer to an older template is not recorded for the newer", versions("", ""), both,
			[]fedsync.Answer{{Cluster: "m1", Version: "rv:3", Stale: true}, {Cluster: "m2", Version: "rv:4"}},
			versions("t", "o", "m2", "rv:4"),
		},
		"Moved": {
			"a cluster that is no longer placed is forgotten", versions("t", "o", "m1", "rv:1", "m2", "rv:2"),
			[]string{"m1"},
			nil, versions("t", "o", "m1", "rv:1"),
		},
		"Failed": {
			"a failed write has no version", versions("", ""), both,
			[]fedsync.Answer{{Cluster: "m1", Version: "rv:3", Code: status.UpdateFailed}, {Cluster: "m2", Version: "rv:4"}},
			versions("t", "o", "m2", "rv:4"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := fedsync.NextVersions(tt.before, "t", "o", tt.placed, tt.answers...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tt.reason, diff)
			}
		})
	}
}

func TestIsGone(t *testing.T) {
	resource := schema.GroupResource{Resource: "configmaps"}
	tests := map[string]struct {
		reason string
		err    error
		want   bool
	}{
		"Object":  {"the API server speaks of the object", apierrors.NewNotFound(resource, "a"), true},
		"Path":    {"a 404 that is none of the API server's objects may come from a proxy", apierrors.NewGenericServerResponse(404, "get", resource, "a", "404 page not found", 0, true), false},
		"Refused": {"another answer says nothing of it", apierrors.NewForbidden(resource, "a", errors.New("no")), false},
		"Silence": {"and neither does none", context.DeadlineExceeded, false},
		"None":    {"an object that was read is there", nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := fedsync.IsGone(tt.err); got != tt.want {
				t.Errorf("%s: got %v, want %v", tt.reason, got, tt.want)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	one := &url.Error{Op: "Post", URL: "https://m1/", Err: &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 40001}, Err: errors.New("connection reset by peer")}}
	two := &url.Error{Op: "Post", URL: "https://m1/", Err: &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 40002}, Err: errors.New("connection reset by peer")}}
	if a, b := fedsync.Plain(one).Error(), fedsync.Plain(two).Error(); a != b || a != "read: connection reset by peer" {
		t.Errorf("the same failure over two connections reads the same, or every try would write a status: %q, %q", a, b)
	}
}
