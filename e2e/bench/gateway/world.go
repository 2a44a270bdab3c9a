package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// worldCommand makes the benchmark's program the network between three clusters: the lab's own.
const worldCommand = "gateway-world"

// The clusters of the world: that of the clients, the one that they use first, and the one that is there when it dies.
const (
	nearIndex = iota
	firstIndex
	otherIndex
	worldSize
)

// oneWay is the delay of every link between two clusters: 20 ms there and back.
const oneWay = 10 * time.Millisecond

// worldSpec says where the network process is to be reached.
type worldSpec struct{ Dir, NFT string }

// serveWorld is the child, in namespaces of its own. It is told once what to make, and ends with its standard input.
func serveWorld(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	running := false
	err := child.Serve(ctx, in, out, func(ctx context.Context, spec worldSpec) (network.State, error) {
		made := network.Spec{Socket: filepath.Join(spec.Dir, "network.sock"), NFT: spec.NFT}
		var listeners []net.Listener
		for i := range worldSize {
			name := clusterName(i)
			made.Clusters = append(made.Clusters, network.Cluster{Name: name, Index: i, Nodes: []string{name + "-n1"}, Port: 1})
			var config net.ListenConfig
			listener, err := config.Listen(ctx, "unix", filepath.Join(spec.Dir, name+".sock")) // nobody connects to it
			if err != nil {
				return network.State{}, fmt.Errorf("preparing %s: %w", name, err)
			}
			listeners = append(listeners, listener)
		}
		running = true
		go func() { ended <- network.Run(ctx, made, listeners, slog.New(slog.DiscardHandler)) }()
		return awaitWorld(ctx, network.NewClient(made.Socket), ended)
	})
	cancel()
	if running {
		err = errors.Join(err, <-ended)
	}
	return err
}

func clusterName(i int) string { return "c" + strconv.Itoa(i) }

// awaitWorld waits until the network is there, and gives its links their delay.
func awaitWorld(ctx context.Context, client *network.Client, ended chan error) (network.State, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := client.State(ctx); err == nil {
			break
		}
		select {
		case err := <-ended:
			ended <- nil
			return network.State{}, fmt.Errorf("the network ended: %w", err)
		case <-ctx.Done():
			return network.State{}, errors.New("the network does not come")
		case <-tick.C:
		}
	}
	delay := oneWay.String()
	for i := range worldSize {
		if _, err := client.SetLinks(ctx, network.Change{Ends: network.Ends{From: []string{clusterName(i)}}, Delay: &delay}); err != nil {
			return network.State{}, err
		}
	}
	return client.State(ctx)
}

// world is three clusters of one node each.
type world struct {
	dir     string
	process *child.Process
	state   network.State
	links   *network.Client
}

// errNoWorld says why there can be none here.
var errNoWorld = errors.New("networks of their own need root")

// newWorld makes one in a folder.
func newWorld(ctx context.Context, dir string) (*world, error) {
	nft := find("nft")
	if nft == "" {
		return nil, fmt.Errorf("%w, and the program nft: apt-get install nftables", errNoWorld)
	}
	if os.Geteuid() != 0 {
		return nil, errNoWorld
	}
	w := &world{dir: dir, links: network.NewClient(filepath.Join(dir, "network.sock"))}
	var err error
	w.process, err = child.StartBy(ctx, child.Way{Attr: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}}, worldCommand)
	if errors.Is(err, syscall.EPERM) {
		return nil, errNoWorld
	}
	if err != nil {
		return nil, err
	}
	if err := w.process.Call(worldSpec{Dir: dir, NFT: nft}, &w.state); err != nil {
		w.process.Stop()
		return nil, err
	}
	return w, nil
}

func (w *world) stop() { w.process.Stop() }

// inside returns how to start something on a cluster's node.
func (w *world) inside(cluster int) child.Way {
	return child.Way{Wrap: w.enter(cluster)}
}

func (w *world) enter(cluster int) []string {
	return []string{"nsenter", "--net=" + w.state.Namespaces[clusterName(cluster)+"-n1"], "--"}
}

// command is a program on a cluster's node.
func (w *world) command(ctx context.Context, cluster int, command ...string) *exec.Cmd {
	all := append(w.enter(cluster), command...)
	return exec.CommandContext(ctx, all[0], all[1:]...) //nolint:gosec // G204: programs of the benchmark
}

// node is the address of a cluster's node.
func node(cluster int) netip.Addr { return network.NodeIP(cluster, 1) }

// cut lets nothing through between the clients and a cluster, and heal everything.
func (w *world) cut(ctx context.Context, cluster int) error {
	_, err := w.links.Cut(ctx, between(cluster))
	return err
}

func (w *world) heal(ctx context.Context, cluster int) error {
	_, err := w.links.Heal(ctx, between(cluster))
	return err
}

func between(cluster int) network.Ends {
	return network.Ends{From: []string{clusterName(nearIndex)}, To: []string{clusterName(cluster)}, Both: true}
}
