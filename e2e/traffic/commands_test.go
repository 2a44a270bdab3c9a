package traffic_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// nobody is the user that `unprivileged` runs commands as.
const nobody = 65534

func (w *world) commands() map[string]script.Command {
	commands := map[string]script.Command{
		"eventually":   script.Eventually(spell),
		"swings":       swingsCommand,
		"within":       script.Within(spell),
		"traces":       tracesCommand,
		"stray":        strayCommand,
		"unprivileged": unprivilegedCommand,
		"json":         jsonCommand,
		"lab-pod":      podCommand,
		"quickest":     quickestCommand,
		"occupy":       occupyCommand,
		"from-to":      fromToCommand,
		"hub-program":  w.hubCommand,
		"answers":      answersCommand,
		"share":        shareCommand,
		"moves":        movesCommand,
		"verdicts":     verdictsCommand,
		"load":         loadCommand,
		"loaded":       loadedCommand,
		"failing":      failingCommand,
		"unload":       unloadCommand,
		"dns-program":  w.namesCommand,
		"dns-restarts": w.restartsCommand,
		"outage":       w.outageCommand,
		"agree":        agreeCommand,
		"look":         lookCommand,
		"looked":       lookedCommand,
		"certificate":  certificateCommand,
		"fault":        w.faultCommand,
		"calling":      w.callingCommand,
		"strike":       w.strikeCommand,
		"mend":         w.mendCommand,

		"signed-dns-program": w.signedCommand,
	}
	for _, name := range []string{"lab", "hub", "m1", "m2", "m3", "kubectl", "hansa", "hub-side", "ask", "tell", "dig", "kdig", "metrics", "half-close"} {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			program, args := spell(ts, name, args)
			script.Outcome(ts, neg, ts.Exec(program, args...))
		}
	}
	return commands
}

// spell turns a short form into the program and its arguments.
func spell(ts *testscript.TestScript, name string, args []string) (program string, full []string) {
	switch name {
	case "lab":
		return "hansa-lab", append([]string{"--name=" + ts.Getenv("LAB"), "--source=" + ts.Getenv("SOURCE")}, args...)
	case "hub", "m1", "m2", "m3":
		return "kubectl", append([]string{"--context=" + name, "--namespace=" + ts.Getenv("NS")}, args...)
	case "hansa":
		return "hansa", append([]string{"--context=hub"}, args...)
	case "hub-side": // where the hub programs can be reached
		return spell(ts, "lab", append([]string{"exec", lab.Hub, "--", "hansa", "--context=hub"}, args...))
	case "metrics":
		return spellMetrics(ts, args)
	case "half-close":
		return spellHalf(ts, args)
	case "ask":
		return spellAsk(ts, args)
	case "tell":
		return spellTell(ts, args)
	case "dig", "kdig":
		return spellDig(ts, name, args)
	default:
		return name, args
	}
}

// strayCommand kills processes of the lab behind its back.
func strayCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stray PATTERN")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	hit := 0
	for pid, command := range marked(l.Dir()) {
		if pattern.MatchString(command) {
			ts.Check(syscall.Kill(pid, syscall.SIGKILL))
			hit++
		}
	}
	if hit == 0 {
		ts.Fatalf("no process of the lab fits %q", args[0])
	}
}

// marked returns the command lines of the processes that carry the mark of a lab's directory, by pid.
func marked(dir string) map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(environ), "HANSA_LAB_PROCESS="+dir+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && len(command) > 0 {
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found
}

// homeOf is the home of the user without rights. It does not lie in the script's folder, which only its owner may enter.
func homeOf(ts *testscript.TestScript) string {
	return filepath.Join(filepath.Dir(ts.Getenv("BIN")), "home-"+ts.Getenv("NS"))
}

// unprivilegedCommand runs a command as nobody. The caches of programs are shared with him, or he would build Kubernetes
// first.
func unprivilegedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: unprivileged COMMAND...")
	}
	program, full := spell(ts, args[0], args[1:])
	path, err := exec.LookPath(program)
	if err != nil {
		path = filepath.Join(ts.Getenv("BIN"), program)
	}
	home := homeOf(ts)
	ts.Check(os.MkdirAll(home, 0o700))
	ts.Check(os.Chown(home, nobody, nobody))
	cmd := exec.Command(path, full...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + home, "PATH=" + ts.Getenv("PATH"), "XDG_CACHE_HOME=" + ts.Getenv("CACHE")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	script.Outcome(ts, neg, cmd.Run())
}

// jsonCommand compares a value in the last line of the last output that is JSON, or in all of it.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH PATTERN")
	}
	value, err := lookUp(ts.ReadFile("stdout"), args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	if pattern.MatchString(value) == neg {
		ts.Fatalf("%s is %s, wanted %s (negated: %t)", args[0], value, args[1], neg)
	}
}

// lookUp finds the value at a dotted path.
func lookUp(output, path string) (string, error) {
	var document any
	if err := json.Unmarshal([]byte(output), &document); err != nil {
		lines := strings.Split(strings.TrimSpace(output), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &document); err != nil {
			return "", fmt.Errorf("the last line of the output is no JSON: %w", err)
		}
	}
	for key := range strings.SplitSeq(path, ".") {
		switch at := document.(type) {
		case map[string]any:
			document = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return "", fmt.Errorf("no element %s at %s", key, path)
			}
			document = at[i]
		default:
			return "", fmt.Errorf("nothing at %s of %s", key, path)
		}
	}
	text, err := json.Marshal(document)
	return strings.Trim(string(text), `"`), err
}
