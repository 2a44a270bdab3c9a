package watch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

// typed makes informers as most controllers have them: typed, in protobuf, without a limit of requests per second.
func typed(m *cluster.Member) (informers.SharedInformerFactory, *rest.Config, error) {
	config := m.Config()
	if config == nil {
		return nil, nil, fmt.Errorf("member %s has no configuration", m.Name)
	}
	plain := rest.CopyConfig(config)
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = kruntime.ContentTypeProtobuf, kruntime.ContentTypeProtobuf+","+kruntime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to %s: %w", m.Name, err)
	}
	return informers.NewSharedInformerFactory(client, 0), plain, nil
}

// heldTyped returns the bytes per slice that a typed informer takes.
func heldTyped(ctx context.Context) (float64, error) {
	server := memberapi.New()
	defer server.Close()
	fill(server, "c1", slicesHeld, false)
	m, err := ready("c1", server)
	if err != nil {
		return 0, err
	}
	before := heap()
	factory, _, err := typed(m)
	if err != nil {
		return 0, err
	}
	informer := factory.Discovery().V1().EndpointSlices().Informer()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return 0, errors.New("the reference informer is not in step")
	}
	bytes := float64(heap()-before) / slicesHeld
	if held := len(informer.GetStore().ListKeys()); held != slicesHeld {
		return 0, fmt.Errorf("the reference informer holds %d slices of %d", held, slicesHeld)
	}
	runtime.KeepAlive(server)
	return bytes, nil
}

// onceTyped returns how long informers take until they hold the same kinds of all clusters, all begun at once.
func onceTyped(ctx context.Context, servers []*memberapi.Server) (seconds float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	var shutdown []func()
	defer func() {
		cancel()
		for _, end := range shutdown {
			end()
		}
	}()
	var starts []func()
	var synced []cache.InformerSynced
	for i := range clusters {
		m, err := ready(fmt.Sprintf("c%03d", i), servers[i])
		if err != nil {
			return 0, err
		}
		factory, config, err := typed(m)
		if err != nil {
			return 0, err
		}
		objects, err := dynamic.NewForConfig(config)
		if err != nil {
			return 0, fmt.Errorf("connecting to %s: %w", m.Name, err)
		}
		metadatas, err := metadata.NewForConfig(config)
		if err != nil {
			return 0, fmt.Errorf("connecting to %s: %w", m.Name, err)
		}
		nodes := metadatainformer.NewSharedInformerFactory(metadatas, 0)
		others := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0)
		synced = append(synced,
			factory.Core().V1().Services().Informer().HasSynced,
			nodes.ForResource(corev1.SchemeGroupVersion.WithResource("nodes")).Informer().HasSynced,
			factory.Discovery().V1().EndpointSlices().Informer().HasSynced,
			others.ForResource(memberapi.Exports).Informer().HasSynced,
		)
		starts = append(starts, func() { factory.StartWithContext(ctx) }, func() { nodes.Start(ctx.Done()) }, func() { others.Start(ctx.Done()) })
		shutdown = append(shutdown, factory.Shutdown, nodes.Shutdown, others.Shutdown)
	}
	runtime.GC()
	began := time.Now()
	for _, start := range starts {
		start()
	}
	for _, done := range synced {
		for !done() {
			select {
			case <-ctx.Done():
				return 0, errors.New("the reference informers are not in step")
			case <-time.After(lookAgain):
			}
		}
	}
	return time.Since(began).Seconds(), nil
}
