package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The words behind get that mean global services, singular or plural. A member's own objects of these kinds are had as
// services.core and endpoints.core, or by their short names.
const (
	globalServices  = "services"
	globalEndpoints = "endpoints"
)

// globalWord returns which of them a word behind get means; empty if neither. KubeFed's program keeps to KubeFed's words.
func (p *program) globalWord(what string) string {
	if p.name != Hansa {
		return ""
	}
	switch strings.ToLower(what) {
	case globalServices, "service":
		return globalServices
	case globalEndpoints, "endpoint":
		return globalEndpoints
	}
	return ""
}

// splitNames understands TYPE NAME... and kubectl's other spelling, TYPE/NAME...: it returns the type before the names.
func splitNames(cmd *cobra.Command, args []string) ([]string, error) {
	kind, _, joined := strings.Cut(args[0], "/")
	if !joined {
		return args, nil
	}
	split := []string{kind}
	for _, arg := range args {
		name, same := strings.CutPrefix(arg, kind+"/")
		if !same || name == "" || kind == "" {
			return nil, usage(cmd, "%q: want TYPE NAME..., or TYPE/NAME for each, all of one type", arg)
		}
		split = append(split, name)
	}
	return split, nil
}

// selection is which services a command is about.
type selection struct {
	namespace string // empty: all
	keys      []clusterset.Key
}

// selectServices understands names, plain or with a namespace.
func (p *program) selectServices(names []string, f getFlags) (selection, error) {
	var s selection
	if !f.allNamespaces {
		var err error
		if s.namespace, err = p.contextNamespace(); err != nil {
			return s, err
		}
	}
	for _, name := range names {
		namespace, bare, qualified := strings.Cut(name, "/")
		switch {
		case !qualified && f.allNamespaces:
			return s, fmt.Errorf("service %q: with -A, give the namespace too: NAMESPACE/%s", name, name)
		case !qualified:
			namespace, bare = s.namespace, name
		case namespace == "" || bare == "" || strings.Contains(bare, "/"):
			return s, fmt.Errorf("service %q: want NAME or NAMESPACE/NAME", name)
		}
		s.keys = append(s.keys, clusterset.Key{Namespace: namespace, Name: bare})
	}
	return s, nil
}

// of returns the services of the selection, and an error that names those that there are not.
func (s selection) of(t *serviceTable, program string) ([]*clusterset.Service, error) {
	if len(s.keys) == 0 {
		services := t.snapshot.Services()
		return slices.DeleteFunc(services, func(service *clusterset.Service) bool {
			return s.namespace != "" && service.Namespace != s.namespace
		}), nil
	}
	var services []*clusterset.Service
	var absent, near []string
	for _, key := range s.keys {
		if service := t.snapshot.Service(key); service != nil {
			services = append(services, service)
		} else {
			absent = append(absent, key.String())
			near = append(near, t.near(key)...)
		}
	}
	if len(absent) == 0 {
		return services, nil
	}
	next := fmt.Sprintf("List what there is: %s get services -A", program)
	if len(near) > 0 {
		next = "Did you mean " + strings.Join(near[:min(5, len(near))], " or ") + "?"
	}
	return services, fmt.Errorf("no cluster exports %s. %s", strings.Join(absent, ", "), next)
}

// near lists the services that a person may have meant: of the same name elsewhere, or of nearly the same.
func (t *serviceTable) near(key clusterset.Key) []string {
	var names []string
	for _, service := range t.snapshot.Services() {
		typo := service.Namespace == key.Namespace && distance(service.Name, key.Name) <= min(2, len(key.Name)/3)
		if service.Name == key.Name || typo {
			names = append(names, service.String())
		}
	}
	return names
}

// nothing says on stderr that there is nothing to show.
func (p *program) nothing(s selection) {
	where := ""
	if s.namespace != "" {
		where = " from namespace " + s.namespace + " (-A: all namespaces)"
	}
	fmt.Fprintf(p.streams.ErrOut, "No cluster exports a service%s. Export one with a ServiceExport in a cluster, "+
		"or with the annotation hansa.dev/export on a FederatedService.\n", where)
}
