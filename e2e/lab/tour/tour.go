// Package tour shows in one go what Hansa is for: it boots a lab, prepares the host cluster, starts the hub program,
// joins the members, spreads the sample application and prints what arrived where. It leaves everything running and
// can be run again at any time; what is done already is not done twice.
package tour

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/config/samples"
	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
)

// Program is the name of the hub program in the lab.
const Program = "hansa-hub"

// members are those that the sample application names.
var members = []string{"m1", "m2"}

// How long each step may take on a machine that is busy with other things.
const (
	hubPatience    = time.Minute
	joinPatience   = time.Minute
	spreadPatience = 2 * time.Minute
)

// Tour says where the tour takes place.
type Tour struct {
	Lab *lab.Lab  // is brought up if it is not
	Bin string    // folder with the programs hansa and kubectl
	Out io.Writer // gets progress and result
}

// Run goes through all steps. Errors name the step, what was waited for, and where to look.
func (t Tour) Run(ctx context.Context) error {
	for _, program := range []string{"hansa", "kubectl"} {
		if _, err := exec.LookPath(t.program(program)); err != nil {
			return fmt.Errorf("the tour needs the program %s beside hansa-lab: %w; run make build", program, err)
		}
	}
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"boot the clusters hub, m1 and m2", t.boot},
		{"prepare the host cluster", t.prepare},
		{"start the hub program", t.startHub},
		{"join the members", t.join},
		{"spread the sample application", t.spread},
	} {
		t.say("==> %d. %s", i+1, step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("tour, step %d (%s): %w", i+1, step.title, err)
		}
	}
	return t.show(ctx)
}

func (t Tour) boot(ctx context.Context) error {
	if err := t.Lab.Up(ctx); err != nil {
		return err
	}
	clusters, err := t.Lab.Clusters()
	if err != nil {
		return err
	}
	for _, c := range clusters {
		t.say("    %-3s  %s", c.Name, c.URL())
	}
	return nil
}

func (t Tour) prepare(ctx context.Context) error {
	return t.run(ctx, nil, "hansa", "init", "--host-cluster-context="+lab.Hub)
}

// startHub starts the hub program, or starts it again if it was rebuilt since, and waits until it is ready.
func (t Tour) startHub(ctx context.Context) error {
	running, err := t.hub()
	if err != nil {
		return err
	}
	if running.Activity() == lab.Paused {
		return fmt.Errorf("the hub program is paused: resume it with hansa-lab resume program/%s", Program)
	}
	if running.Activity() == lab.Running && t.rebuilt(running) {
		t.say("    %s is newer than the running hub program: restarting it", t.shown("hansa"))
		if err := t.Lab.StopProgram(ctx, Program); err != nil {
			return err
		}
		running = lab.Program{}
	}
	if running.Activity() == lab.Gone {
		if running, err = t.launchHub(ctx); err != nil {
			return err
		}
	}
	t.say("    process %d, log %s", running.PID, running.Log)
	url := healthURL(running.Command)
	if url == "" {
		return nil // started by hand; the next step will tell
	}
	return t.wait(ctx, hubPatience, "the hub program to be ready", func(ctx context.Context) (string, error) {
		if running.Activity() == lab.Gone {
			return "", fmt.Errorf("the hub program ended; the end of %s:\n%s", running.Log, running.Output())
		}
		return askHealth(ctx, url), nil
	})
}

// hub returns the hub program as the lab knows it; the zero Program, which is Gone, if it never ran.
func (t Tour) hub() (lab.Program, error) {
	programs, err := t.Lab.Programs()
	if err != nil {
		return lab.Program{}, err
	}
	if i := slices.IndexFunc(programs, func(p lab.Program) bool { return p.Name == Program }); i >= 0 {
		return programs[i], nil
	}
	return lab.Program{}, nil
}

// rebuilt tells whether the program on disk is newer than the running one.
func (t Tour) rebuilt(running lab.Program) bool {
	info, err := os.Stat(t.program("hansa"))
	return err == nil && info.ModTime().After(running.Started)
}

func (t Tour) launchHub(ctx context.Context) (lab.Program, error) {
	ports := lab.NewPorts(nil)
	metrics, err := ports.Free()
	if err != nil {
		return lab.Program{}, err
	}
	health, err := ports.Free()
	if err != nil {
		return lab.Program{}, err
	}
	return t.Lab.StartProgram(ctx, Program, []string{
		t.program("hansa"), "hub",
		"--kubeconfig=" + t.Lab.Kubeconfig(),
		"--kubefed-namespace=" + api.DefaultNamespace,
		fmt.Sprintf("--metrics-addr=127.0.0.1:%d", metrics),
		"--xds-addr=127.0.0.1:0",
		"--enrol-addr=127.0.0.1:0",
		fmt.Sprintf("%s127.0.0.1:%d", healthFlag, health),
	}, nil)
}

const healthFlag = "--healthz-addr="

// healthURL finds in a command line where the hub program tells whether it is ready.
func healthURL(command []string) string {
	for _, arg := range command {
		if addr, ok := strings.CutPrefix(arg, healthFlag); ok {
			return "http://" + addr + "/readyz"
		}
	}
	return ""
}

// askHealth returns "" when url answers 200, else what is wrong.
func askHealth(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return url + " answers " + resp.Status
	}
	return ""
}

// join joins the members that are not joined yet and waits until the hub program finds all of them ready.
func (t Tour) join(ctx context.Context) error {
	host, err := t.client(lab.Hub)
	if err != nil {
		return err
	}
	for _, member := range members {
		state, err := host.memberState(ctx, member)
		if err != nil {
			return err
		}
		if state != stateAbsent {
			t.say("    %s is joined", member)
			continue
		}
		err = t.run(ctx, nil, "hansa", "join", member, "--cluster-context="+member, "--host-cluster-context="+lab.Hub)
		if err != nil {
			return err
		}
	}
	return t.wait(ctx, joinPatience, "the members to be Ready", func(ctx context.Context) (string, error) {
		for _, member := range members {
			state, err := host.memberState(ctx, member)
			if err != nil || state != stateReady {
				return t.orDead(member+" "+state, err)
			}
		}
		return "", nil
	})
}

// spread applies the sample application and waits until all of it has arrived as it should.
func (t Tour) spread(ctx context.Context) error {
	yaml, err := samples.YAML()
	if err != nil {
		return err
	}
	if err := t.run(ctx, yaml, "kubectl", "apply", "--context="+lab.Hub, "-f", "-"); err != nil {
		return err
	}
	results, err := t.results()
	if err != nil {
		return err
	}
	return t.wait(ctx, spreadPatience, "the sample application in "+strings.Join(members, " and "),
		func(ctx context.Context) (string, error) {
			rows, err := results.rows(ctx)
			if err != nil {
				return t.orDead(err.Error(), nil) // the API may just be learning the new types
			}
			for _, r := range rows {
				if r.pending != "" {
					return t.orDead(fmt.Sprintf("%s %s in %s: %s", r.kind, r.name, r.cluster, r.pending), nil)
				}
			}
			return "", nil
		})
}

// orDead passes on what a wait is waiting for, unless the hub program has ended: then waiting is of no use.
func (t Tour) orDead(pending string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	hub, err := t.hub()
	if err != nil {
		return "", err
	}
	if hub.Activity() == lab.Gone {
		return "", fmt.Errorf("the hub program ended; the end of %s:\n%s", hub.Log, hub.Output())
	}
	return pending, nil
}

// show prints the result and what to try next.
func (t Tour) show(ctx context.Context) error {
	results, err := t.results()
	if err != nil {
		return err
	}
	rows, err := results.rows(ctx)
	if err != nil {
		return err
	}
	t.say("")
	t.say("%s", table(rows))
	t.say("")
	t.say("There are no kubelets in this lab: the Pods of Deployments and Jobs exist and stay Pending.")
	t.say("")
	t.say("Everything keeps running. Try next:")
	t.say("")
	t.say("  export KUBECONFIG=%s", t.Lab.Kubeconfig())
	for _, try := range [][2]string{
		{"hansa get deployments -n " + samples.Namespace, "the objects of all members in one table"},
		{"kubectl --context m1 -n " + samples.Namespace + " delete configmap web-settings", "the hub makes it again at once: kubectl --context m1 get"},
		{"hansa-lab " + t.labFlags() + "kill m2", "then see: " + t.shown("hansa") + " get clusters; and " + t.shown("hansa-lab") + " " + t.labFlags() + "start m2"},
	} {
		t.say("  %s/%s\n      # %s", t.shownBin(), try[0], try[1])
	}
	t.say("")
	t.say("When you have seen enough: %s %sdown", t.shown("hansa-lab"), t.labFlags())
	return nil
}

// labFlags name a lab that is not the default one, with a space behind.
func (t Tour) labFlags() string {
	root, err := lab.Root()
	switch {
	case err == nil && t.Lab.Dir() != filepath.Join(root, t.Lab.Name()):
		return "--dir=" + t.Lab.Dir() + " "
	case t.Lab.Name() != lab.DefaultName:
		return "--name=" + t.Lab.Name() + " "
	default:
		return ""
	}
}

func (t Tour) program(name string) string { return filepath.Join(t.Bin, name) }
func (t Tour) shown(name string) string   { return t.shownBin() + "/" + name }

// shownBin is the folder of the programs as a person would type it from where the tour was started.
func (t Tour) shownBin() string {
	wd, err := os.Getwd()
	if err != nil {
		return t.Bin
	}
	rel, err := filepath.Rel(wd, t.Bin)
	switch {
	case err != nil || strings.HasPrefix(rel, ".."):
		return t.Bin
	case rel == ".":
		return "."
	default:
		return rel
	}
}

// run runs a program of the tour and shows it as it would be typed, with its output below.
func (t Tour) run(ctx context.Context, stdin []byte, name string, args ...string) error {
	typed := strings.Join(append([]string{t.shown(name)}, args...), " ")
	if stdin != nil {
		typed = strings.TrimSuffix(typed, " -") + " config/samples"
	}
	t.say("    $ %s", typed)
	cmd := exec.CommandContext(ctx, t.program(name), args...) //nolint:gosec // G204: our own programs
	cmd.Env = append(os.Environ(), "KUBECONFIG="+t.Lab.Kubeconfig())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	out := &indented{w: t.Out}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(stdin)), out, out
	err := cmd.Run()
	out.finish()
	if err != nil {
		return fmt.Errorf("%s: %w", typed, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}
