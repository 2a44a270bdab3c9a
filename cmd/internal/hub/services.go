package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/federated"
	"github.com/hansa-dev/hansa/federation/imports"
)

// services puts together what connects services: the table of what members export, what is written of it into members,
// and who is told of it over xDS.
type services struct {
	mgr      manager.Manager
	options  *Options
	registry *cluster.Registry
	listener net.Listener    // of xDS; nil when it is turned off
	strange  net.Listener    // of enrolment; nil when it is turned off
	ctx      context.Context //nolint:containedctx // of the setting up
	recorder federated.Recorder
	log      logr.Logger
}

// prepared tells whether the host cluster has the kinds that services need. One that was prepared by an older version, or
// by KubeFed, has not, and goes on spreading objects.
func (s services) prepared() (bool, error) {
	kind := schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: "ClusterInfo"}
	_, err := s.mgr.GetRESTMapper().RESTMapping(kind, v1alpha1.GroupVersion.Version)
	switch {
	case meta.IsNoMatchError(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("asking the host cluster whether it serves %s: %w", kind, err)
	}
	return true, nil
}

func (s services) setUp() error {
	ok, err := s.prepared()
	if err != nil {
		return err
	}
	if !ok {
		s.log.Info("Global services are off: the host cluster does not know ClusterInfo. Run \"hansa init\" and start the hub again")
		return s.close()
	}
	client, namespace := s.mgr.GetClient(), s.options.Namespace
	archive := exports.NewConfigMaps(s.mgr.GetAPIReader(), client, namespace)
	told := make(chan struct{})
	watcher := exports.NewWatcher(exports.Options{
		Members: s.registry, Complete: told, Archive: archive, Log: s.log.WithName("exports"),
	})
	objects := &exports.Controllers{Client: client, Watcher: watcher, Namespace: namespace, Log: s.log.WithName("exports")}
	primer := &exports.Primer{Controllers: objects, Complete: s.registry.Complete(), Done: told}
	writer := &imports.Reconciler{
		Snapshots: watcher, Members: s.registry, ClusterID: watcher.ClusterID, Ready: watcher.Ready(),
		Log: s.log.WithName("imports"),
	}
	for _, part := range []manager.Runnable{
		primer, watcher, writer, &exports.Keeper{Watcher: watcher, Archive: archive},
		&drills{client: client, namespace: namespace, log: s.log.WithName("drills")},
	} {
		if err := s.mgr.Add(part); err != nil {
			return fmt.Errorf("setting up global services: %w", err)
		}
	}
	for _, part := range []interface{ SetupWithManager(manager.Manager) error }{
		objects,
		&federated.Controller{Client: client, Recorder: s.recorder, Namespace: namespace},
	} {
		if err := part.SetupWithManager(s.mgr); err != nil {
			return err
		}
	}
	if err := s.mgr.AddReadyzCheck("services", known(watcher.Ready())); err != nil {
		return fmt.Errorf("setting up /readyz: %w", err)
	}
	if err := metrics.Registry.Register(collectors(append(exports.Collectors(), imports.Collectors()...))); err != nil {
		return fmt.Errorf("setting up the metrics of global services: %w", err)
	}
	if err := serveDNS(s.mgr, s.options, watcher, ctrl.Log.WithName("dns")); err != nil {
		return err
	}
	if err := publishNames(s.mgr, s.options, s.registry, watcher, ctrl.Log.WithName("external-dns")); err != nil {
		return err
	}
	if s.listener == nil {
		return nil
	}
	return s.serveXDS(watcher)
}

// close gives up listeners that are never served.
func (s services) close() error {
	var problems []error
	for _, listener := range []net.Listener{s.listener, s.strange} {
		if listener != nil {
			problems = append(problems, listener.Close())
		}
	}
	return errors.Join(problems...)
}

// known is a check that passes once the table is as complete as it can be: a client that was sent here before would get
// no answer.
func known(ready <-chan struct{}) healthz.Checker {
	return func(*http.Request) error {
		select {
		case <-ready:
			return nil
		default:
			return errors.New("the services of the members are not known yet")
		}
	}
}

// serveXDS adds what clients of xDS and agents need: certificates, the servers, and where they are.
func (s services) serveXDS(watcher *exports.Watcher) error {
	address, err := advertised(s.options.XDSAddress, s.listener.Addr())
	if err != nil {
		return fmt.Errorf("--xds-advertise: %w", err)
	}
	who, err := s.newIdentities(watcher, address)
	if err != nil {
		return err
	}
	told := &announcer{
		client: s.mgr.GetClient(), reader: s.mgr.GetAPIReader(), namespace: s.options.Namespace, replica: rand.String(8), address: address,
		roots: who.who.BundlePEM, ready: who.who.Ready(), leads: s.mgr.Elected(), log: s.log.WithName("xds"),
	}
	told.enrolment, err = s.serveEnrolment(who, address)
	if err != nil {
		return err
	}
	seen := newTeller(watcher)
	talks := s.newAgents(watcher, seen, who, told.replica)
	server, measures := newDiscovery(s.listener, watcher, who, talks, s.log.WithName("xds"))
	server.ready = append(server.ready, watcher.Ready())
	for _, part := range append(who.parts, server, told, verdicts{talks, who.door, watcher, seen}) {
		if err := s.mgr.Add(part); err != nil {
			return fmt.Errorf("setting up xDS: %w", err)
		}
	}
	measures = append(measures, talks.Collectors()...)
	measures = append(measures, who.refusals.Collectors()...)
	if err := metrics.Registry.Register(collectors(measures)); err != nil {
		return fmt.Errorf("setting up the metrics of xDS: %w", err)
	}
	return nil
}

// serveEnrolment adds the listener for agents without a certificate, and returns where they reach it; nowhere if there is none.
func (s services) serveEnrolment(who *identities, xds string) (string, error) {
	if s.strange == nil {
		return "", nil
	}
	if who.enrol == nil {
		s.log.Info("Agents get no certificates here: they have them from where the hub has its own")
		return "", s.strange.Close()
	}
	at := s.options.EnrolAt
	if at == "" && s.options.XDSAddress != "" {
		at = hosts(xds)[0]
	}
	address, err := advertised(at, s.strange.Addr())
	if err != nil {
		return "", fmt.Errorf("--enrol-advertise: %w", err)
	}
	if err := s.mgr.Add(enroller{who, s.strange}); err != nil {
		return "", fmt.Errorf("setting up enrolment: %w", err)
	}
	if err := metrics.Registry.Register(collectors(who.enrol.Collectors())); err != nil {
		return "", fmt.Errorf("setting up the metrics of enrolment: %w", err)
	}
	return address, nil
}

// addServices adds global services to a hub.
func addServices(ctx context.Context, mgr manager.Manager, o *Options, registry *cluster.Registry) error {
	listener, err := listen(ctx, "xds-addr", o.XDSAddr)
	if err != nil {
		return err
	}
	var strange net.Listener
	if listener != nil { // enrolled with whom else?
		if strange, err = listen(ctx, "enrol-addr", o.EnrolAddr); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	parts := services{
		mgr: mgr, options: o, registry: registry, listener: listener, strange: strange, ctx: ctx, log: ctrl.Log.WithName("services"),
		recorder: recorder{mgr.GetEventRecorder("hansa-hub"), o.Namespace},
	}
	return parts.setUp()
}
