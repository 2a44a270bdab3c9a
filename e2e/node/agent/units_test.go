package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/agent"
	"github.com/hansa-dev/hansa/e2e/node/podlog"
)

func TestAddresses(t *testing.T) {
	a := agent.NewAddresses(netip.MustParsePrefix("10.1.1.0/29"))
	take := func() string {
		addr, err := a.Take()
		if err != nil {
			return err.Error()
		}
		return addr.String()
	}
	for i, want := range []string{"10.1.1.2", "10.1.1.3", "10.1.1.4"} {
		if got := take(); got != want {
			t.Errorf("address %d is %s, want %s", i, got, want)
		}
	}
	a.Free(netip.MustParseAddr("10.1.1.3"))
	if got := take(); got != "10.1.1.5" {
		t.Errorf("after one was given back the next is %s, want 10.1.1.5: others are used up first", got)
	}
	for _, want := range []string{"10.1.1.6", "10.1.1.3"} {
		if got := take(); got != want {
			t.Errorf("the next address is %s, want %s: neither the bridge's nor the broadcast address", got, want)
		}
	}
	if got := take(); !strings.Contains(got, "taken") {
		t.Errorf("when all are taken there is %s", got)
	}
	a.Free(netip.MustParseAddr("10.1.1.2"))
	if got := take(); got != "10.1.1.2" {
		t.Errorf("the only one that is free is not given out, but %s", got)
	}
}

func TestSignalAll(t *testing.T) {
	errRefused := errors.New("refused")
	for _, test := range []struct {
		reason   string
		children map[int][]int // that a process starts just before its signal arrives
		ended    int           // a process that is gone by then
		refused  int           // one that cannot be signalled
		want     []int
		err      string
	}{
		{reason: "one process", want: []int{1}},
		{reason: "one that starts others, which do so too", children: map[int][]int{1: {2, 3}, 3: {4}, 4: {5}}, want: []int{1, 2, 3, 4, 5}},
		{reason: "one that has ended is no error", children: map[int][]int{1: {2, 3}}, ended: 2, want: []int{1, 2, 3}},
		{reason: "an error does not save the others", children: map[int][]int{1: {2, 3}}, refused: 2, want: []int{1, 2, 3}, err: "process 2: refused"},
	} {
		live, signalled := []int{1}, []int{}
		err := agent.SignalAll(func() []int { return slices.Clone(live) }, func(pid int) error {
			signalled = append(signalled, pid)
			live = append(live, test.children[pid]...)
			switch pid {
			case test.ended:
				return syscall.ESRCH
			case test.refused:
				return errRefused
			}
			return nil
		})
		if !slices.Equal(signalled, test.want) {
			t.Errorf("%s: %v were signalled, want %v, each once", test.reason, signalled, test.want)
		}
		if got := fmt.Sprint(err); test.err == "" && err != nil || test.err != "" && got != test.err {
			t.Errorf("%s: the error is %v, want %q", test.reason, err, test.err)
		}
	}
}

func TestParseLogOptions(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	for _, test := range []struct {
		reason, query string
		want          podlog.Options
		err           string
	}{
		{reason: "nothing", query: ""},
		{reason: "no lines is not the same as all lines", query: "tailLines=0", want: podlog.Options{Tail: new(int64(0))}},
		{
			reason: "all there is", query: "tailLines=5&limitBytes=10&sinceSeconds=60&timestamps=true&stream=Stderr",
			want: podlog.Options{Tail: new(int64(5)), Limit: new(int64(10)), Since: now.Add(-time.Minute), Timestamps: true, Stream: "stderr"},
		},
		{reason: "a time", query: "sinceTime=2026-01-01T00:00:00Z", want: podlog.Options{Since: now.Add(-time.Minute)}},
		{reason: "a time and a number of seconds", query: "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1", err: "exclude each other"},
		{reason: "no number", query: "tailLines=x", err: "tailLines"},
		{reason: "a negative number", query: "tailLines=-1", err: "at least 0"},
		{reason: "no bytes at all", query: "limitBytes=0", err: "at least 1"},
		{reason: "a stream that there is not", query: "stream=Stdin", err: "Stdin"},
	} {
		query, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := agent.ParseLogOptions(query, now)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: the error is %v, want one with %q", test.reason, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", test.reason, err, diff)
		}
	}
}

func TestStatusPatch(t *testing.T) {
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status}
	}
	with := func(labels map[string]string, conditions ...corev1.PodCondition) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{UID: "u", Labels: labels},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: conditions},
		}
	}
	for _, test := range []struct {
		reason          string
		current, wanted *corev1.Pod
		want            string
	}{
		{
			reason:  "what is the same is not written",
			current: with(nil, condition("Ready", "True"), condition("Initialized", "True")),
			wanted:  with(nil, condition("Initialized", "True"), condition("Ready", "True")),
		},
		{
			reason:  "labels that somebody has changed meanwhile stay as they are, and so do others' conditions",
			current: with(map[string]string{"new": "label"}, condition("Ready", "True"), condition("gate", "True")),
			wanted:  with(map[string]string{"old": "label"}, condition("Ready", "True"), condition("gate", "False")),
		},
		{
			reason:  "what differs is written, for that pod only",
			current: with(nil, condition("Ready", "False"), condition("gate", "True")),
			wanted:  with(nil, condition("Ready", "True")),
			want:    `{"metadata":{"uid":"u"},"status":{"$setElementOrder/conditions":[{"type":"Ready"},{"type":"gate"}],"conditions":[{"status":"True","type":"Ready"}]}}`,
		},
	} {
		patch, err := agent.StatusPatch(test.current, test.wanted)
		if err != nil {
			t.Fatal(err)
		}
		if test.want == "" {
			if patch != nil {
				t.Errorf("%s: the patch is %s", test.reason, patch)
			}
			continue
		}
		var got, want any
		if err := json.Unmarshal(patch, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(test.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", test.reason, diff)
		}
	}
}

func TestSubPath(t *testing.T) {
	volume, elsewhere := t.TempDir(), t.TempDir()
	for link, to := range map[string]string{"within": "dir", "out": elsewhere} {
		if err := os.Symlink(to, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		reason, sub, want string // want relative to the volume; "" for an error
	}{
		{"a directory that is missing is made", "dir/sub", "dir/sub"},
		{"a link within the volume is followed", "within/sub", "dir/sub"},
		{"one that leads out is not", "out", ""},
		{"nor is a path that does", "../x", ""},
		{"nor an absolute one", "/etc", ""},
	} {
		got, err := agent.SubPath(volume, test.sub)
		if test.want == "" {
			if err == nil {
				t.Errorf("%s: %s is %s", test.reason, test.sub, got)
			}
			continue
		}
		if want := filepath.Join(volume, test.want); got != want || err != nil {
			t.Errorf("%s: %s is %s, %v, want %s", test.reason, test.sub, got, err, want)
		}
	}
}

func TestVolumeContent(t *testing.T) {
	for _, test := range []struct {
		reason   string
		contents []map[string]string
	}{
		{"files", []map[string]string{{"a": "1", "b": "2"}}},
		{"files in directories", []map[string]string{{"dir/a": "1", "dir/sub/b": "2", "c": "3"}}},
		{"nothing", []map[string]string{{}}},
		{"other content", []map[string]string{{"a": "1"}, {"a": "2"}}},
		{"the same content", []map[string]string{{"a": "1"}, {"a": "1"}}},
		{"files that come and go", []map[string]string{{"a": "1", "d/x": "1"}, {"b": "2"}, {"b": "2", "d/y": "3"}}},
	} {
		dir := filepath.Join(t.TempDir(), "volume")
		if err := agent.ShowFiles(dir, test.contents...); err != nil {
			t.Fatalf("%s: %v", test.reason, err)
		}
		if diff := cmp.Diff(test.contents[len(test.contents)-1], shown(t, dir)); diff != "" {
			t.Errorf("%s: %s", test.reason, diff)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		versions := 0
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "..2") {
				versions++
			}
		}
		if versions != 1 {
			t.Errorf("%s: there are %d versions, want only the present one", test.reason, versions)
		}
	}
}

// shown is what a program sees in a volume.
func shown(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		root, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			content[filepath.Join(e.Name(), strings.TrimPrefix(path, root))] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return content
}
