package agent_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
)

// TestUnreadCertificates holds that the advice helps: what is there and belongs to somebody else need not be written again.
func TestUnreadCertificates(t *testing.T) {
	for _, c := range []struct {
		err       error
		want, not string
	}{
		{fs.ErrPermission, "chown USER /etc/hansa-dns/tls.key", "bootstrap"},
		{fs.ErrNotExist, "hansa xds bootstrap --cluster CLUSTER --dir /etc/hansa-dns", "chown"},
	} {
		err := agent.Unread(&fs.PathError{Op: "open", Path: "/etc/hansa-dns/tls.key", Err: c.err}, "/etc/hansa-dns")
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.not) {
			t.Errorf("%v", err)
		}
	}
}
