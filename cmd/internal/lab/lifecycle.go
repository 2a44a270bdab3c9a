package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// noKubelets is what everybody who looks for running Pods has to know.
const noKubelets = "There are no kubelets in this lab: a Deployment gets its ReplicaSet and Pods, and the Pods stay Pending."

func (o *options) upCommand() *cobra.Command {
	var traffic bool
	var networks lab.Traffic
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Boot a hub and member clusters, and wait until they are ready",
		Long: `Boot a hub and member clusters m1, m2, … in parallel, and wait until they are ready. The first time it builds
Kubernetes, which takes some minutes. A lab that is up is left alone; its dead clusters are started.
If it fails or is interrupted, everything it made is gone again.

With --traffic each cluster gets a network of its own and nodes that run Pods as processes, with kube-proxy and CoreDNS.
That needs root or user namespaces, and the program nft. Without it, a Deployment gets its ReplicaSet and Pods, and the
Pods stay Pending.`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.addTraffic(cmd, traffic, networks); err != nil {
				return err
			}
			l, err := o.open()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := l.Up(cmd.Context()); err != nil {
				return err
			}
			o.printf("lab %s is up after %.1f s: %s\n", l.Name(), time.Since(began).Seconds(), l.Dir())
			if !traffic {
				o.printf("%s\n", noKubelets)
			}
			o.printf("export KUBECONFIG=%s\n", l.Kubeconfig())
			return nil
		},
	}
	cmd.Flags().IntVar(&o.lab.Members, "members", lab.DefaultMembers, "number of member clusters")
	cmd.Flags().IntVar(&o.lab.Thin, "scale", 0, "number of further, thin members s1, s2, …: an API server and its etcd only, for tests of scale")
	cmd.Flags().IntVar(&o.lab.Fake, "fake-nodes", 0, "with --scale: number of nodes in each thin member that kwok plays; Pods seem to run there")
	cmd.Flags().BoolVar(&traffic, "traffic", false, "give each cluster a network and nodes that run Pods")
	cmd.Flags().IntVar(&networks.Nodes, "nodes", 1, "with --traffic: nodes of each cluster, each in a zone of its own")
	cmd.Flags().BoolVar(&networks.Flat, "flat", false, "with --traffic: let the clusters' pod ranges reach each other; else only nodes do")
	cmd.Flags().StringToStringVar(&networks.Regions, "region", nil, "with --traffic: regions of clusters, as m1=north,m2=north (default: each its own)")
	cmd.Flags().StringToStringVar(&networks.Images, "image", nil, "with --traffic: programs that containers of an image run, as hansa=/usr/local/bin/hansa")
	cmd.Flags().Var(cliflag.NewMapStringBool(&o.lab.Gates), "feature-gates", "feature gates for all Kubernetes programs, as NAME=true,NAME=false")
	return cmd
}

// addTraffic takes over the flags that concern traffic, which are of no use without it.
func (o *options) addTraffic(cmd *cobra.Command, traffic bool, networks lab.Traffic) error {
	if traffic && networks.Nodes < 1 {
		return usageError{fmt.Errorf("--nodes=%d: a cluster has 1 to %d", networks.Nodes, lab.MaxNodes)}
	}
	if traffic {
		for name, program := range networks.Images {
			absolute, err := filepath.Abs(program)
			if err != nil {
				return fmt.Errorf("--image %s=%s: %w", name, program, err)
			}
			networks.Images[name] = absolute
		}
		o.lab.Traffic = &networks
		return nil
	}
	for _, flag := range []string{"nodes", "flat", "region", "image"} {
		if cmd.Flags().Changed(flag) {
			return usageError{fmt.Errorf("--%s is of use only with --traffic", flag)}
		}
	}
	return nil
}

func (o *options) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "down",
		Short:             "End everything that belongs to the lab and remove its directory",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			found, err := l.Down(cmd.Context())
			switch {
			case err != nil:
				return err
			case found:
				o.printf("lab %s is down: no process and no file of it is left\n", l.Name())
			default:
				o.printf("there is no lab %s: nothing to do\n", l.Name())
			}
			return nil
		},
	}
}

func (o *options) kubeconfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "kubeconfig",
		Short:             "Print the path of the lab's kubeconfig, with a context for each cluster",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			l, err := o.open()
			if err != nil {
				return err
			}
			if _, err := l.Clusters(); err != nil {
				return err
			}
			o.printf("%s\n", l.Kubeconfig())
			return nil
		},
	}
}

func (o *options) binaryCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "binary",
		Short:             "Print the path of the Kubernetes binary, building it if need be",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := o.build(cmd)
			if err != nil {
				return err
			}
			o.printf("%s\n", b.Path)
			return nil
		},
	}
}

func (o *options) buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "build",
		Short:             "Build what labs run, ahead of time: Kubernetes, nodes, CoreDNS, kwok",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := o.source()
			if err != nil {
				return err
			}
			for _, find := range []func(context.Context, string) (lab.Binary, error){lab.FindBinary, lab.FindNode, lab.FindDNS, lab.FindKwok} {
				b, err := find(cmd.Context(), source)
				if err != nil {
					return err
				}
				if err := b.Build(cmd.Context(), o.streams.ErrOut); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// source is the folder of the Kubernetes binary's module.
func (o *options) source() (string, error) {
	if o.lab.Source != "" {
		return o.lab.Source, nil
	}
	return lab.FindSource()
}

func (o *options) installKubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install-kubectl DIR",
		Short: "Put kubectl into a folder",
		Long:  "Put kubectl into a folder. It is the Kubernetes binary, built if need be, under the name by which it knows to be kubectl.",
		Args:  exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := o.build(cmd)
			if err != nil {
				return err
			}
			return b.Install(args[0], "kubectl")
		},
	}
}

func (o *options) build(cmd *cobra.Command) (lab.Binary, error) {
	source, err := o.source()
	if err != nil {
		return lab.Binary{}, err
	}
	b, err := lab.FindBinary(cmd.Context(), source)
	if err != nil {
		return lab.Binary{}, err
	}
	return b, b.Build(cmd.Context(), o.streams.ErrOut)
}
