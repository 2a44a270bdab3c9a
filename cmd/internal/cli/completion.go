package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// completionTimeout bounds what a shell waits for when somebody presses tab.
const completionTimeout = 3 * time.Second

// addOutput adds -o with the formats that a command knows, which the shell completes.
func addOutput(cmd *cobra.Command, output *string, formats ...string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "Output format: "+strings.Join(formats, ", "))
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}

func (p *program) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return sortedKeys(p.contexts()), cobra.ShellCompDirectiveNoFileComp
}

func (p *program) completeContextsOnce(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completeContexts(cmd, args, word)
}

// completeFromHost completes with what the host cluster answers; with nothing when it does not answer in time.
func (p *program) completeFromHost(cmd *cobra.Command, list func(context.Context, *host) []string) ([]string, cobra.ShellCompDirective) {
	parent := cmd.Context()
	if parent == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(parent, completionTimeout)
	defer cancel()
	h, err := p.openHost()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list(ctx, h), cobra.ShellCompDirectiveNoFileComp
}

func (p *program) completeClusters(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completeFromHost(cmd, func(ctx context.Context, h *host) []string {
		clusters := &corev1b1.KubeFedClusterList{}
		if h.client.List(ctx, clusters, client.InNamespace(h.namespace)) != nil {
			return nil
		}
		var names []string
		for _, cluster := range clusters.Items {
			names = append(names, cluster.Name)
		}
		return names
	})
}

func (p *program) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.completeFromHost(cmd, func(ctx context.Context, h *host) []string {
		namespaces := &corev1.NamespaceList{}
		if h.client.List(ctx, namespaces) != nil {
			return nil
		}
		var names []string
		for _, namespace := range namespaces.Items {
			names = append(names, namespace.Name)
		}
		return names
	})
}

// completeTypes completes a first argument with the kinds of the host that keep accepts.
func (p *program) completeTypes(keep func(kind string) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.completeFromHost(cmd, func(ctx context.Context, h *host) []string {
			kinds, err := h.kinds(ctx, "")
			if err != nil {
				return nil
			}
			var names []string
			for _, kind := range kinds {
				if keep(kind.Kind) {
					names = append(names, qualified(kind))
				}
			}
			return names
		})
	}
}

// completeTypeConfigs completes a first argument with the enabled types.
func (p *program) completeTypeConfigs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completeFromHost(cmd, func(ctx context.Context, h *host) []string {
		configs := &corev1b1.FederatedTypeConfigList{}
		if h.client.List(ctx, configs, client.InNamespace(h.namespace)) != nil {
			return nil
		}
		var names []string
		for _, config := range configs.Items {
			names = append(names, config.Name)
		}
		return names
	})
}
