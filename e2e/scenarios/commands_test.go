package scenarios_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
	"github.com/hansa-dev/hansa/federation/api"
)

// statusPath prints the propagation of a federated object: "True  m1= m2=", "False CheckClusters m1= m2=UpdateFailed".
const statusPath = `jsonpath={.status.conditions[?(@.type=="Propagation")].status}` +
	` {.status.conditions[?(@.type=="Propagation")].reason} {range .status.clusters[*]}{.name}={.status} {end}`

const federatedNamespace = `apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
---
apiVersion: types.kubefed.io/v1beta1
kind: FederatedNamespace
metadata:
  name: %[1]s
  namespace: %[1]s
spec:
  placement:
    clusterSelector: {}
`

// params are those of the scripts in a folder. after runs behind each script, if it is given.
func (f *fixture) params(dir string, after func(context.Context) error) testscript.Params {
	run := strconv.FormatInt(time.Now().Unix()%(36*36*36*36), 36)
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-") + "-" + run
			env.Vars = append(env.Vars, append(f.env(), "NS="+name, "SYSTEM="+api.DefaultNamespace, "STATUS="+statusPath)...)
			if after != nil {
				env.Defer(func() {
					if err := after(context.Background()); err != nil {
						env.T().Fatal("mending what the script disturbed:", err)
					}
				})
			}
			return expandFiles(env.WorkDir, name)
		},
		Cmds:               f.commands(),
		RequireUniqueNames: true,
	}
}

// expandFiles replaces $NS in the files of a script.
func expandFiles(dir, ns string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte("$NS"), []byte(ns)), 0o600)
	})
}

func (f *fixture) commands() map[string]script.Command {
	commands := map[string]script.Command{
		"federate-namespace": federateNamespace,
		"eventually":         script.Eventually(spell),
		"within":             script.Within(spell),
		"hub":                f.hubCommand,
		"cluster":            f.clusterCommand,
		"audit":              f.auditCommand,
	}
	for _, name := range []string{"hansa", "kubefedctl", "kubectl", "host", "m1", "m2"} {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			program, args := spell(ts, name, args)
			script.Outcome(ts, neg, ts.Exec(program, args...))
		}
	}
	return commands
}

// spell turns a short form of kubectl into the program and its arguments.
func spell(ts *testscript.TestScript, name string, args []string) (program string, full []string) {
	place := map[string]string{"host": lab.Hub, "m1": "m1", "m2": "m2"}[name]
	if place == "" {
		return name, args
	}
	return "kubectl", append([]string{"--context=" + place, "--namespace=" + ts.Getenv("NS")}, args...)
}

func federateNamespace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: federate-namespace")
	}
	file := ts.MkAbs(".federate-namespace.yaml")
	ts.Check(os.WriteFile(file, fmt.Appendf(nil, federatedNamespace, ts.Getenv("NS")), 0o600))
	ts.Check(ts.Exec("kubectl", "create", "-f", file))
}

func (f *fixture) hubCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: hub start|stop|kill|log [-t DURATION] [NAME] [FLAGS...]")
	}
	name, flags, limit := defaultHub, args[1:], readyTimeout
	if len(flags) > 1 && flags[0] == "-t" {
		var err error
		limit, err = time.ParseDuration(flags[1])
		ts.Check(err)
		flags = flags[2:]
	}
	if len(flags) > 0 && !strings.HasPrefix(flags[0], "-") {
		name, flags = flags[0], flags[1:]
	}
	ctx := context.Background()
	switch args[0] {
	case "start":
		script.Outcome(ts, neg, f.startHub(ctx, name, limit, flags...))
	case "stop":
		script.Outcome(ts, neg, f.stopHub(ctx, name))
	case "kill":
		script.Outcome(ts, neg, f.killHub(ctx, name))
	case "log":
		data, err := os.ReadFile(f.hub(name).Log)
		ts.Check(err)
		_, err = ts.Stdout().Write(data)
		ts.Check(err)
	default:
		ts.Fatalf("hub %s: want start, stop, kill or log", args[0])
	}
}

func (f *fixture) clusterCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: cluster kill|start|pause|resume TARGET")
	}
	do := map[string]func(context.Context, string) error{
		"kill": f.lab.Kill, "start": f.lab.Start, "pause": f.lab.Pause, "resume": f.lab.Resume,
	}[args[0]]
	if do == nil {
		ts.Fatalf("cluster %s: want kill, start, pause or resume", args[0])
	}
	script.Outcome(ts, neg, do(context.Background(), args[1]))
}

func (f *fixture) auditCommand(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg:
		ts.Fatalf("unsupported: ! audit")
	case len(args) == 2 && args[0] == "mark":
		ts.Check(f.mark(ts.Getenv("NS") + "/" + args[1]))
	case len(args) >= 5 && args[0] == "count":
		n := len(args) - 2
		want, err := strconv.Atoi(args[n+1])
		ts.Check(err)
		found, err := f.writesSince(ts.Getenv("NS")+"/"+args[1], args[2], args[3:n])
		ts.Check(err)
		holds, known := map[string]bool{"-eq": len(found) == want, "-le": len(found) <= want, "-ge": len(found) >= want}[args[n]]
		if !known {
			ts.Fatalf("audit count: want -eq, -le or -ge, not %s", args[n])
		}
		lines := slices.Collect(func(yield func(string) bool) {
			for _, e := range found {
				if !yield(fmt.Sprintf("%s %s/%s/%s %s/%s by %s (%d)", e.Verb, e.Group, e.Resource, e.Subresource, e.Namespace, e.Name, e.User, e.Code)) {
					return
				}
			}
		})
		ts.Logf("%d writes\n%s", len(found), strings.Join(lines, "\n"))
		if !holds {
			ts.Fatalf("%d writes to %s since %s, want %s %d", len(found), args[2], args[1], args[n], want)
		}
	default:
		ts.Fatalf("usage: audit mark NAME | audit count NAME CLUSTER [KEY=VALUE...] -eq|-le|-ge COUNT")
	}
}
