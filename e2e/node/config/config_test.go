package config_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/e2e/node/config"
)

// file is a complete configuration with changes; a nil value removes the field.
func file(tb testing.TB, changes map[string]any) []byte {
	tb.Helper()
	fields := map[string]any{
		"cluster": "m1", "name": "m1-n1", "kubeconfig": "/k", "address": "172.20.1.11", "podCIDR": "10.1.1.0/24",
		"clusterDNS": "10.97.0.10", "clusterDomain": "cluster.local", "leaseSeconds": 8,
		"labels": map[string]string{"a": "b"}, "capacity": map[string]string{"cpu": "16", "memory": "16Gi", "pods": "110"},
		"stateDir": "/s", "certFile": "/c", "keyFile": "/k", "clientCAFile": "/ca", "shim": "/shim",
		"images":  []any{map[string]any{"name": "echo", "command": []string{"/w", "echo"}}},
		"daemons": []any{map[string]any{"name": "proxy", "command": []string{"/p"}, "log": "/l"}},
	}
	maps.Copy(fields, changes)
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
	data, err := json.Marshal(fields)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestParse(t *testing.T) {
	c, err := config.Parse(file(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "m1-n1" || c.PodCIDR.String() != "10.1.1.0/24" || c.LeaseSeconds != 8 || c.Images[0].Command[1] != "echo" {
		t.Errorf("the configuration is %+v", c)
	}
	if c, err = config.Parse(file(t, map[string]any{"leaseSeconds": nil, "images": nil, "daemons": nil, "labels": nil})); err != nil || c.LeaseSeconds != 40 {
		t.Errorf("without what is optional: lease %d, %v", c.LeaseSeconds, err)
	}
	for _, test := range []struct {
		reason  string
		changes map[string]any
		want    string
	}{
		{"a field that nobody knows is a mistake", map[string]any{"podCidr2": "x"}, "podCidr2"},
		{"the name is needed", map[string]any{"name": nil}, "name is missing"},
		{"paths must not depend on where the node is started", map[string]any{"shim": "shim"}, "shim must be an absolute path"},
		{"an address is an address", map[string]any{"address": "node"}, "node"},
		{"and of IPv4", map[string]any{"address": "fd00::1"}, "IPv4"},
		{"there must be room for a pod", map[string]any{"podCIDR": "10.1.1.0/31"}, "podCIDR"},
		{"a lease that is too short cannot be renewed in time", map[string]any{"leaseSeconds": 1}, "leaseSeconds"},
		{"capacity is complete", map[string]any{"capacity": map[string]string{"cpu": "1", "pods": "1"}}, "capacity memory"},
		{"and made of quantities", map[string]any{"capacity": map[string]string{"cpu": "1", "pods": "1", "memory": "much"}}, "capacity memory"},
		{"an image has a program", map[string]any{"images": []any{map[string]any{"name": "x"}}}, `image "x"`},
		{"and a name that can be matched", map[string]any{"images": []any{map[string]any{"name": "[", "command": []string{"/w"}}}}, "no pattern"},
		{"a daemon has a log", map[string]any{"daemons": []any{map[string]any{"name": "d", "command": []string{"/w"}}}}, `daemon "d"`},
	} {
		if _, err := config.Parse(file(t, test.changes)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want one with %q", test.reason, err, test.want)
		}
	}
	if _, err := config.Parse(append(file(t, nil), '{')); err == nil {
		t.Error("what comes after the object is no mistake")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(f, nil))
	f.Add([]byte(`{"podCIDR":"0.0.0.0/0","capacity":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse(data)
		if err != nil {
			return
		}
		if !c.Address.Is4() || !c.PodCIDR.IsValid() || c.Name == "" {
			t.Errorf("an incomplete configuration is taken: %+v", c)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(again); err != nil {
			t.Errorf("what was taken once is not taken again: %v", err)
		}
	})
}
