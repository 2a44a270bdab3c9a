package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test's binary the program. Its value may be "subreaper": then the process inherits orphans, as
// process 1 does.
const asProgram = "WORKLOAD_TEST_PROGRAM"

const patience = 10 * time.Second

func TestMain(m *testing.M) {
	switch os.Getenv(asProgram) {
	case "":
		os.Exit(m.Run())
	case "subreaper":
		adopt()
	}
	main()
}

// adopt makes the process inherit an orphan: the process that reads file descriptor 3 to its end.
func adopt() {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		panic(errno)
	}
	parent := exec.Command("/bin/sh", "-c", "cat <&3 >/dev/null & echo $!")
	parent.Stdout = os.Stdout
	parent.ExtraFiles = []*os.File{os.NewFile(3, "orphan")}
	if err := parent.Run(); err != nil {
		panic(err)
	}
	syscall.CloseOnExec(3)
	_ = syscall.Close(3)
}

// program starts a command line; it is killed at the end of the test.
func program(t *testing.T, as string, files []*os.File, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"="+as)
	cmd.ExtraFiles = files
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = output.Close() })
	if err := output.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = input, input
	err = cmd.Start()
	_ = input.Close()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(output)
}

// end signals and expects exit status 0.
func end(t *testing.T, cmd *exec.Cmd, sig os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after %s: %v", sig, err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-timeout:
			t.Fatalf("after %s still not: %s", patience, what)
		case <-ticker.C:
		}
	}
}

func TestPause(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) { pauseUntil(t, sig) })
	}
}

// pauseUntil checks that pause collects an orphan and then ends on a signal.
func pauseUntil(t *testing.T, sig syscall.Signal) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = write.Close() }()
	cmd, output := program(t, "subreaper", []*os.File{read}, "pause")
	_ = read.Close()
	var pid int
	if _, err := fmt.Fscan(output, &pid); err != nil {
		t.Fatalf("the orphan: %v", err)
	}
	stat := fmt.Sprintf("/proc/%d/stat", pid)
	eventually(t, "the orphan belongs to pause", func() bool {
		data, err := os.ReadFile(stat)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(data), fmt.Sprintf(" S %d ", cmd.Process.Pid))
	})
	_ = write.Close()
	eventually(t, "the orphan has gone, and is no zombie", func() bool {
		_, err := os.Stat(stat)
		return os.IsNotExist(err)
	})
	end(t, cmd, sig)
}

func TestSignals(t *testing.T) {
	t.Run("echo ends on SIGTERM", func(t *testing.T) {
		cmd, output := program(t, "plain", nil, "echo", "--http=127.0.0.1:0", "--tcp=", "--udp=", "--grpc=")
		if line, err := output.ReadString('\n'); err != nil || !strings.Contains(line, "serving") {
			t.Fatalf("%q (%v)", line, err)
		}
		end(t, cmd, syscall.SIGTERM)
	})
	t.Run("load prints its summary on SIGINT", func(t *testing.T) {
		cmd, output := program(t, "plain", nil, "load", "--duration=0", "--interval=10ms", "tcp://127.0.0.1:1")
		if line, err := output.ReadString('\n'); err != nil || !strings.Contains(line, `"interval"`) {
			t.Fatalf("%q (%v)", line, err)
		}
		end(t, cmd, syscall.SIGINT)
		rest, err := io.ReadAll(output)
		last := bytes.TrimSpace(rest[bytes.LastIndexByte(bytes.TrimSpace(rest), '\n')+1:])
		if err != nil || !bytes.HasPrefix(last, []byte(`{"type":"summary"`)) {
			t.Errorf("the last line is %s (%v)", last, err)
		}
	})
}
