package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/agent"
)

// programVariable makes the test binary the program.
const programVariable = "HANSA_DNS"

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "" {
		os.Exit(m.Run())
	}
	os.Exit(asProgram())
}

func asProgram() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := agent.NewCommand(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	cmd.SilenceErrors = true
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		return 1
	}
	return 0
}

// program is one that runs.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{}
	err   error // once it ended

	mu      sync.Mutex
	lines   []map[string]any // of the log; what is no JSON is {"msg": text}
	changed chan struct{}
}

// run starts `hansa dns` with flags that make it answer on loopback.
func run(t *testing.T, args ...string) *program {
	t.Helper()
	return start(t, append([]string{"--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--log-format", "json"}, args...)...)
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...), ended: make(chan struct{}), changed: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), programVariable+"=1")
	log, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.cmd.Stderr
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		scanner := bufio.NewScanner(log)
		for scanner.Scan() {
			p.read(scanner.Bytes())
		}
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Log(p.log())
		}
	})
	return p
}

func (p *program) read(text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := map[string]any{}
	if json.Unmarshal(text, &line) != nil {
		line = map[string]any{"msg": string(bytes.Clone(text))}
	}
	p.lines = append(p.lines, line)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var text strings.Builder
	for _, line := range p.lines {
		fmt.Fprintln(&text, line)
	}
	return text.String()
}

// says waits for a line of the log whose message begins with text, and of which more holds.
func (p *program) says(text string, more ...string) map[string]any {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		lines, changed := p.lines, p.changed
		p.mu.Unlock()
		for _, line := range lines {
			message, _ := line["msg"].(string)
			if !strings.HasPrefix(message, text) {
				continue
			}
			if len(more) == 0 || strings.Contains(fmt.Sprint(line), more[0]) {
				return line
			}
		}
		select {
		case <-changed:
		case <-p.ended:
			p.t.Fatalf("the program has ended (%v) and did not say %q %q:\n%s", p.err, text, more, p.log())
		case <-deadline:
			p.t.Fatalf("the program does not say %q %q:\n%s", text, more, p.log())
		}
	}
}

// addr is where it answers.
func (p *program) addr() string {
	p.t.Helper()
	addrs, _ := p.says("Serving DNS", "over:udp")["addresses"].([]any)
	return fmt.Sprint(addrs[0])
}

// web is where its metrics are.
func (p *program) web() string {
	p.t.Helper()
	return fmt.Sprint(p.says("Serving metrics and probes")["address"])
}

// get returns what is at a path of the metrics' address, with the status.
func (p *program) get(path string) string {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.web()+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", response.StatusCode, text)
}

// ask asks for A records, and returns the answer for people: the rcode, the addresses, and the codes of extended errors.
func (p *program) ask(network, name string) string {
	p.t.Helper()
	query := new(miekg.Msg)
	query.SetQuestion(name, miekg.TypeA)
	query.SetEdns0(1232, false)
	response, _, err := (&miekg.Client{Net: network, Timeout: patience}).ExchangeContext(p.t.Context(), query, p.addr())
	if err != nil {
		p.t.Fatal(err)
	}
	words := []string{miekg.RcodeToString[response.Rcode]}
	for _, rr := range response.Answer {
		if a, ok := rr.(*miekg.A); ok {
			words = append(words, a.A.String())
		}
	}
	if opt := response.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if ede, ok := option.(*miekg.EDNS0_EDE); ok {
				words = append(words, fmt.Sprintf("EDE %d", ede.InfoCode))
			}
		}
	}
	return strings.Join(words, " ")
}

// until asks until the answer is right.
func (p *program) until(name, want string) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		got := p.ask("udp", name)
		if got == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("%s is %q, not %q", name, got, want)
		}
	}
}

// stop has the program stop cleanly.
func (p *program) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
	if p.err != nil {
		p.t.Errorf("it did not stop cleanly: %v\n%s", p.err, p.log())
	}
}

func (p *program) wait() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal(errors.New("the program does not end"))
	}
}
