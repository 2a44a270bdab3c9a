package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	"github.com/virtual-kubelet/virtual-kubelet/log/klogv2"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// restartPause is the pause before a part of the node that has failed is started again.
const restartPause = time.Second

// Run runs the node until ctx ends; its pods' processes end with it. It must be the first process of its PID
// namespace.
func Run(ctx context.Context, c config.Config, log *slog.Logger) error {
	if err := settle(c); err != nil {
		return err
	}
	vklog.L = klogv2.New(nil)
	table := process.NewTable()
	bridge, err := sandbox.SetUpBridge(c.PodCIDR)
	if err != nil {
		return fmt.Errorf("setting up the network of node %s: %w", c.Name, err)
	}
	// What a former run has left of its pods is of no use: they start anew.
	if err := os.RemoveAll(filepath.Join(c.StateDir, "pods")); err != nil {
		return fmt.Errorf("removing what a former run has left: %w", err)
	}
	client, err := newClient(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := newNode(ctx, c, client, table, bridge, log)
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { table.Reap(ctx) })
	for _, d := range c.Daemons {
		parts.Go(func() { table.Keep(ctx, process.Daemon{Name: d.Name, Command: d.Command, Log: d.Log}, log) })
	}
	failed := make(chan error, 1)
	for _, serve := range []func(context.Context) error{n.agent.ServeKubelet, n.agent.ServeControl} {
		parts.Go(func() {
			if err := serve(ctx); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	parts.Go(func() { n.watch(ctx) })
	parts.Go(func() { n.keep(ctx, "pods", n.runPods) })
	parts.Go(func() { n.keep(ctx, "node object", n.runNode) })
	log.Info("node started", "name", c.Name, "pods", c.PodCIDR)
	select {
	case <-ctx.Done():
		n.agent.Wait()
		return nil
	case err := <-failed:
		return err
	}
}

// newClient makes a client without a limit of requests per second.
func newClient(c config.Config) (kubernetes.Interface, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %s: %w", c.Kubeconfig, err)
	}
	rc.QPS = -1
	rc.UserAgent = rest.DefaultKubernetesUserAgent()
	rc.ContentType = "application/vnd.kubernetes.protobuf"
	rc.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return client, nil
}

// keep runs a part of the node until ctx ends, again and again if need be.
func (n *node) keep(ctx context.Context, what string, run func(context.Context) error) {
	for ctx.Err() == nil {
		err := run(ctx)
		if ctx.Err() != nil || errors.Is(err, context.Canceled) {
			return
		}
		n.log.Error("a part of the node ended and will be started again", "part", what, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(restartPause):
		}
	}
}
