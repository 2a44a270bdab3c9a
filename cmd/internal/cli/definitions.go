package cli

import (
	"context"
	"strings"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/join"
)

// serviceDefinitions installs the Multi-Cluster Services API in the host, so that ServiceExports can be federated like any
// other type (enable serviceexports.multicluster.x-k8s.io). What somebody else installed stays as it is.
func (w *writer) serviceDefinitions(ctx context.Context) error {
	definitions, err := join.ServiceDefinitions()
	if err != nil {
		return err
	}
	for _, wanted := range definitions {
		if err := w.serviceDefinition(ctx, wanted); err != nil {
			return err
		}
	}
	return w.established(ctx, definitions)
}

func (w *writer) serviceDefinition(ctx context.Context, wanted *apiextv1.CustomResourceDefinition) error {
	what := crdPrefix + wanted.Name
	live := &apiextv1.CustomResourceDefinition{}
	err := w.host.client.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return w.host.explain("reading "+what, err)
	}
	write, kept := join.ServiceDefinition(live, wanted)
	switch {
	case kept != "":
		w.sayKept(what, kept)
		return nil
	case write == nil:
		w.say("%s unchanged", what)
		return nil
	case live == nil:
		return w.createDefinition(ctx, write, what)
	}
	if !w.dryRun {
		if err := w.host.client.Update(ctx, write); err != nil {
			return w.host.explain("updating "+what, err)
		}
	}
	w.done(what, "updated")
	return nil
}

func (w *writer) createDefinition(ctx context.Context, definition *apiextv1.CustomResourceDefinition, what string) error {
	if !w.dryRun {
		if err := w.host.client.Create(ctx, definition.DeepCopy()); err != nil {
			return w.host.explain("creating "+what, err)
		}
	}
	w.done(what, "created")
	return nil
}

func (w *writer) sayKept(what, kept string) {
	if why, warning := strings.CutPrefix(kept, "warning: "); warning {
		w.warn("%s %s", what, why)
		return
	}
	w.say("%s %s", what, kept)
}
