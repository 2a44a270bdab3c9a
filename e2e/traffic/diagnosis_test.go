package traffic_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// Bounds of what is shown of a lab whose script has failed.
const (
	diagnosisPatience = 5 * time.Second
	mostOutput        = 6 << 10 // of each command; its end counts
)

// shownColumns are the kinds of objects that are shown, and what of them.
var shownColumns = map[string]string{
	"nodes": "wide",
	"pods":  "wide",
	"endpointslices": "custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,ADDRESSES:.endpoints[*].addresses,READY:.endpoints[*].conditions.ready," +
		"CHANGED:.metadata.managedFields[*].time",
}

// diagnosis is what one needs to see of a lab whose script has failed.
func (w *world) diagnosis(env *testscript.Env) string {
	l, err := lab.New(lab.Options{Name: env.Getenv("LAB")})
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*diagnosisPatience)
	defer cancel()
	status, err := l.Status(ctx)
	if err != nil {
		return fmt.Sprintf("there is no lab to look at: %v", err)
	}
	var b strings.Builder
	for _, c := range status.Clusters {
		for kind, columns := range shownColumns {
			fmt.Fprintf(&b, "== %s of %s, which is %s\n%s", kind, c.Name, c.State,
				output(ctx, w.bin("kubectl"), "--kubeconfig="+l.Kubeconfig(), "--context="+c.Name, "--request-timeout=3s", "get", kind, "--all-namespaces", "--output="+columns))
		}
		for _, component := range c.Components {
			if component.Name == string(lab.ControllerManager) {
				fmt.Fprintf(&b, "== end of the log of the %s of %s, which is %s\n%s", component.Name, c.Name, component.State, script.Tail(component.Log, mostOutput))
			}
		}
		for _, n := range c.Nodes {
			fmt.Fprintf(&b, "== end of the log of node %s, which is %s\n%s", n.Name, n.State, script.Tail(n.Log, mostOutput))
		}
	}
	for _, p := range status.Programs {
		fmt.Fprintf(&b, "== end of the log of program %s, which is %s\n%s", p.Name, p.State, script.Tail(p.Log, mostOutput))
	}
	return b.String()
}

// output is the end of what a command prints.
func output(ctx context.Context, program string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, diagnosisPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		out = fmt.Appendf(out, "%v\n", err)
	}
	return string(out[max(0, len(out)-mostOutput):])
}
