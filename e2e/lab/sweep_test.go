package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab"
)

func TestSweepTakesDownLabsOfProcessesThatAreGone(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	gone := "sweep-" + strconv.Itoa(ended.Process.Pid)
	for _, name := range []string{gone, lab.OwnName("sweep-"), lab.OwnName("other-"), "sweep-by-hand"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, gone, "lab.json"), []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lab.Sweep(t.Context(), "sweep-"); err != nil {
		t.Fatal(err)
	}
	names, err := lab.Names()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{lab.OwnName("other-"), lab.OwnName("sweep-"), "sweep-by-hand"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("only the lab of the process that ended is gone: -want +got:\n%s", diff)
	}
}
