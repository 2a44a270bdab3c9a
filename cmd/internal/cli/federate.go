package cli
import "github.com/spf13/cobra"
func (p *program) newFederate() *cobra.Command { return &cobra.Command{Use: "federate"} }
