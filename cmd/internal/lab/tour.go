package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/tour"
)

func (o *options) tourCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tour",
		Short: "Show what Hansa does: boot a lab, join two members, spread a sample application",
		Long: `Boot the lab if it is not up, prepare the host cluster, start the hub program, join m1 and m2, spread the sample
application, wait until it has arrived, and print every object in every cluster. Everything keeps running; the tour can
be run again at any time. It uses the programs hansa and kubectl beside hansa-lab.`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.lab.Members = lab.DefaultMembers
			o.streams.ErrOut = o.streams.Out // one story
			l, err := o.open()
			if err != nil {
				return err
			}
			// A lab that is up with more members will do.
			if clusters, err := l.Clusters(); err == nil && len(clusters) > 1+lab.DefaultMembers {
				o.lab.Members = len(clusters) - 1
				if l, err = o.open(); err != nil {
					return err
				}
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding the folder of the programs: %w", err)
			}
			return tour.Tour{Lab: l, Bin: filepath.Dir(exe), Out: o.streams.Out}.Run(cmd.Context())
		},
	}
}
