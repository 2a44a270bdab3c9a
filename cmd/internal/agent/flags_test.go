package agent_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
)

// TestFlagErrors holds that a flag that is wrong is named, with what is wanted.
func TestFlagErrors(t *testing.T) {
	dir := t.TempDir()
	file := write(t, "one.zone", "$ORIGIN example.org.\n"+zoneFile)
	hub := "--hub 127.0.0.1:1 --tls-dir " + dir
	none := filepath.Join(dir, "none")
	for _, c := range []struct{ reason, args, want string }{
		{"nothing to serve", "", "--hub is required"},
		{"two things to serve", hub + " --zone-file " + file, "do not go together"},
		{"who is it", "--hub 127.0.0.1:1", "--tls-dir is required"},
		{"a certificate for nobody", "--zone-file " + file + " --tls-dir " + dir, "--tls-dir goes with --hub"},
		{"nothing to keep", "--zone-file " + file + " --state-dir " + dir, "--state-dir goes with --hub"},
		{"a hub without a port", "--hub hub --tls-dir " + dir, `--hub "hub": want HOST:PORT`},
		{"a hub without a host", "--hub :15010 --tls-dir " + dir, `--hub ":15010": want HOST:PORT`},
		{"a log of an unknown form", hub + " --log-format xml", `--log-format "xml"`},
		{"no certificate, and nothing on disk", hub, "hansa xds bootstrap"},
		{"a file where a directory is wanted", hub + " --state-dir " + file, "--state-dir"},
		{"a zone file that is not there", "--zone-file " + none, "--zone-file: open " + none},
		{"a zone file without an origin", "--zone-file " + write(t, "two.zone", zoneFile), "--zone-file"},
		{"no zone file", "--zone-file " + write(t, "three.zone", "}"), "--zone-file"},
		{"an asker of zone files", "--zone-file " + file + " --source 10.0.0.0/8=m1", "--source goes with a hub"},
		{"another TTL for zone files", "--zone-file " + file + " --ttl 99", "--ttl goes with a hub"},
		{"another zone for zone files", "--zone-file " + file + " --zone foo.", "--zone goes with a hub"},
		{"an argument", "x", `unknown command "x"`},
		{"a tap of nothing", "tap --every 0", "--every 0"},
		{"a tap of an unknown form", "tap -o yaml", `unknown output format "yaml"`},
		{"a tap of nobody", "tap --addr 127.0.0.1:1", "connection refused"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			var out bytes.Buffer
			cmd := agent.NewCommand(genericiooptions.IOStreams{In: os.Stdin, Out: &out, ErrOut: &out})
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(strings.Fields(c.args))
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("hansa dns %s: %v, want %q", c.args, err, c.want)
			}
		})
	}
}
