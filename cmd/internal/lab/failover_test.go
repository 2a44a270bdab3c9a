package lab_test

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/lab"
)

// TestFailoverRefuses holds that a story which cannot be told is refused before a lab is made.
func TestFailoverRefuses(t *testing.T) {
	for name, test := range map[string]struct{ args, want string }{
		"Unknown":  {"--only=pods,nothing", `--only "nothing": there is no such fault; there are pod, pods,`},
		"Both":     {"--all --only=pods", "--all and --only do not go together"},
		"Argument": {"pods", ""},
		"Flag":     {"--nothing", "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			command := lab.NewCommand(genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &out, ErrOut: &out})
			command.SetArgs(append([]string{"failover"}, strings.Fields(test.args)...))
			err := command.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
