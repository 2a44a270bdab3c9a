package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says what the running program was built from.
type build struct {
	Version      string `json:"gitVersion"`
	GitCommit    string `json:"gitCommit"`
	GitTreeState string `json:"gitTreeState"`
	BuildDate    string `json:"buildDate"`
	GoVersion    string `json:"goVersion"`
	Compiler     string `json:"compiler"`
	Platform     string `json:"platform"`
}

// thisBuild reads what the Go tool recorded. BuildDate is the date of the commit: builds are reproducible.
func thisBuild() build {
	b := build{
		Version: "(devel)", GitCommit: "unknown", GitTreeState: "unknown", BuildDate: "unknown",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.GitCommit = setting.Value
		case "vcs.time":
			b.BuildDate = setting.Value
		case "vcs.modified":
			b.GitTreeState = "clean"
			if setting.Value == "true" {
				b.GitTreeState = "dirty"
			}
		}
	}
	return b
}

func (p *program) newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Example: p.examples(`
			{} version
			{} version -o json`),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			switch {
			case output == "json" || output == "yaml":
				return writeValue(p.streams.Out, output, b)
			case output != "":
				return usage(cmd, "unknown output format %q: json or yaml", output)
			case p.name == Kubefedctl:
				// The shape that KubeFed prints, which scripts take apart.
				p.say("kubefedctl version: version.Info{Version:%q, GitCommit:%q, GitTreeState:%q, BuildDate:%q, GoVersion:%q, Compiler:%q, Platform:%q}",
					b.Version, b.GitCommit, b.GitTreeState, b.BuildDate, b.GoVersion, b.Compiler, b.Platform)
			default:
				p.say("%s", fmt.Sprintf("%s %s (commit %s, %s, %s, %s)", p.name, b.Version, b.GitCommit, b.GitTreeState, b.GoVersion, b.Platform))
			}
			return nil
		},
	}
	addOutput(cmd, &output, "json", "yaml")
	return cmd
}
