package cluster_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/federation/cluster"
)

func token(issued, expires int64) string {
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iat":%d,"exp":%d}`, issued, expires))
	return "header." + claims + ".signature"
}

func TestRenewAt(t *testing.T) {
	const hour, day = 3600, 24 * 3600
	tests := map[string]struct {
		reason string
		token  string
		renew  int64 // seconds after it was issued; 0 means that it is never renewed
	}{
		"NinetyDays": {"a long token is renewed after a day", token(1000, 1000+90*day), day},
		"OneHour":    {"a short one after half of its life", token(1000, 1000+hour), hour / 2},
		"Endless":    {"KubeFed's tokens do not end", token(1000, 0), 0},
		"Backwards":  {"a token that ends before it begins is not ours", token(1000, 10), 0},
		"NotAJWT":    {"an opaque token tells nothing", "opaque", 0},
		"BadBase64":  {"neither does a broken one", "a.%%.c", 0},
		"BadJSON":    {"neither does a broken one", "a." + base64.RawURLEncoding.EncodeToString([]byte("{")) + ".c", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			renew, _, err := cluster.RenewAt(tt.token)
			if (err == nil) != (tt.renew > 0) {
				t.Fatalf("%s: got error %v", tt.reason, err)
			}
			if err == nil && !renew.Equal(time.Unix(1000+tt.renew, 0)) {
				t.Errorf("%s: renewed at %v, want %v", tt.reason, renew, time.Unix(1000+tt.renew, 0))
			}
		})
	}
}

func FuzzRenewAt(f *testing.F) {
	f.Add(token(1, 2))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		renew, expires, err := cluster.RenewAt(text)
		if err == nil && renew.After(expires) {
			t.Errorf("token %q would be renewed at %v, after its end %v", text, renew, expires)
		}
	})
}
