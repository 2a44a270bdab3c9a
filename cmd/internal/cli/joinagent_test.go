package cli_test

import (
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hansa-dev/hansa/cmd/internal/cli"
)

// Flags of agents without --agent would do nothing, and nobody would notice.
func TestFlagsOfAgentsNeedAgent(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--agent-image=x", "--agent-hub=h:1", "--agent-enrol=h:2", "--agent-node=n1", "--agent-state-dir=", "--agent-arg=--v=1"} {
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		root := cli.NewCommand(cli.Hansa, streams)
		root.SetArgs([]string{"join", "m1", flag})
		name, _, _ := strings.Cut(flag, "=")
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), name+" is of use only with --agent") {
			t.Errorf("join with %s: %v", flag, err)
		}
	}
}

// kubefedctl has KubeFed's commands, and KubeFed knows no agents.
func TestKubefedctlInstallsNoAgents(t *testing.T) {
	t.Parallel()
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	root := cli.NewCommand(cli.Kubefedctl, streams)
	root.SetArgs([]string{"join", "m1", "--agent"})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown flag: --agent") {
		t.Errorf("kubefedctl join --agent: %v", err)
	}
}

// A token that would be good for ever is refused before anybody is asked.
func TestTokenLifetime(t *testing.T) {
	t.Parallel()
	for _, ttl := range []string{"0s", "-1h", "25h"} {
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		root := cli.NewCommand(cli.Hansa, streams)
		root.SetArgs([]string{"token", "m1", "--ttl=" + ttl})
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--ttl") {
			t.Errorf("token --ttl=%s: %v", ttl, err)
		}
	}
}
