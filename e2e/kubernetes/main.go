// Command kubernetes is every program of a Kubernetes control plane in one binary: the first argument, or the name
// that the binary is started by, selects kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, etcd
// or kubectl. One binary shares one build and one page cache, so that the lab can start many control planes cheaply.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build_info on /metrics
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// programs maps a program's name to the constructor of its command.
var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectlcmd.NewDefaultKubectlCommand,
}

func main() {
	os.Exit(run(os.Args))
}

// run picks the program from argv and runs it to its end; the result is the exit code.
func run(argv []string) int {
	name := filepath.Base(argv[0])
	if !known(name) && len(argv) > 1 {
		name, argv = argv[1], argv[1:]
	}
	switch {
	case name == "etcd":
		relax()
		etcdmain.Main(argv)
		return 0
	case programs[name] != nil:
		if name != "kubectl" && name != "kube-proxy" { // nobody tells them when they have started
			relax()
		}
		os.Args = append([]string{name}, argv[1:]...) // the Kubernetes commands read os.Args themselves
		return cli.Run(programs[name]())
	}
	fmt.Fprintf(os.Stderr, "kubernetes: %q is not one of etcd, kube-apiserver, kube-controller-manager, kube-proxy, kube-scheduler, kubectl\n", name)
	return 2
}

func known(name string) bool {
	return name == "etcd" || programs[name] != nil
}
