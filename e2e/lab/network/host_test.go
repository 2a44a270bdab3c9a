package network_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// TestHost looks at a network process from outside: its namespaces can be entered, the host sees nothing of it, and
// nothing of it is left when it is killed.
func TestHost(t *testing.T) {
	privileges(t, func(t *testing.T, start starter) {
		before, err := devices()
		if err != nil {
			t.Fatal(err)
		}
		unchanged := func(when string) {
			t.Helper()
			after, err := devices()
			if diff := cmp.Diff(before, after); diff != "" || err != nil {
				t.Errorf("the host's devices %s (-before +after), %v:\n%s", when, err, diff)
			}
		}
		s, file := specFile(t)
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		inherited, err := listener.File()
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		cmd := start(t, serve, file)
		cmd.ExtraFiles = []*os.File{inherited}
		ended := run(t, cmd)
		_ = inherited.Close()

		client := network.NewClient(s.Socket)
		var state network.State
		eventually(t, "the network answers", func() (err error) { state, err = client.State(t.Context()); return err })
		unchanged("while a network runs")
		entered(t, cmd, state, "c0", "nodes", "wan")
		entered(t, cmd, state, "c0-n1", "eth0")
		refusing(t, listener.Addr())

		process, err := os.FindProcess(state.PID)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, ended); err == nil {
			t.Error("the process ended without an error, although it was killed")
		}
		if _, err := client.State(t.Context()); !errors.Is(err, network.ErrGone) {
			t.Errorf("error %v: the process was killed", err)
		}
		unchanged("after the network was killed")
	})
}

// specFile writes a spec with one cluster where the process can find it.
func specFile(t *testing.T) (network.Spec, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "network") //nolint:usetesting // the folder of TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := network.Spec{
		Socket: filepath.Join(dir, "control.sock"), NFT: nft(t),
		Clusters: []network.Cluster{{Name: "c0", Nodes: []string{"c0-n1"}, Port: 6443}},
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return s, file
}

// run starts a command, and tells when it and all that it started have ended. Its output is logged if the test fails.
func run(t *testing.T, cmd *exec.Cmd) <-chan error {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, all := make(chan error, 1), make(chan struct{})
	go func() { ended <- cmd.Wait(); close(all) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		receive(t, all)
		if t.Failed() {
			t.Log(output.String())
		}
	})
	return ended
}

// entered checks that the user who started the network can enter one of its namespaces, and finds devices there.
func entered(t *testing.T, started *exec.Cmd, state network.State, name string, want ...string) {
	t.Helper()
	args := []string{"--net=" + state.Namespaces[name]}
	if started.SysProcAttr.Credential != nil || os.Geteuid() != 0 {
		args = append(args, "--target="+strconv.Itoa(state.PID), "--user", "--preserve-credentials")
	}
	cmd := exec.CommandContext(t.Context(), "nsenter", append(args, "--", "cat", "/proc/self/net/dev")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: started.SysProcAttr.Credential}
	output, err := cmd.CombinedOutput()
	for _, device := range want {
		if err != nil || !strings.Contains(string(output), device+":") {
			t.Errorf("entering %s, to find device %s: %v\n%s", name, device, err, output)
		}
	}
}

// refusing checks that connections to an API server that does not run are accepted and closed.
func refusing(t *testing.T, address net.Addr) {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", address.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("error %v: there is no API server to read from", err)
	}
}
