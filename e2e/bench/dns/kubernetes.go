package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/version"
)

// object is one of the API, as JSON.
type object = map[string]any

// objects are the services as CoreDNS finds them in a cluster, by the path of their list.
func objects() map[string]object {
	lists := map[string]object{
		"/api/v1/namespaces":                                  list("v1", "NamespaceList"),
		"/api/v1/services":                                    list("v1", "ServiceList"),
		"/apis/discovery.k8s.io/v1/endpointslices":            list("discovery.k8s.io/v1", "EndpointSliceList"),
		"/apis/multicluster.x-k8s.io/v1alpha1/serviceimports": list("multicluster.x-k8s.io/v1alpha1", "ServiceImportList"),
	}
	add := func(path, name, namespace string, labels map[string]string, more object) {
		more["metadata"] = object{"name": name, "namespace": namespace, "labels": labels, "resourceVersion": "1", "uid": namespace + name}
		items, _ := lists[path]["items"].([]object)
		lists[path]["items"] = append(items, more)
	}
	for i := range spaces {
		add("/api/v1/namespaces", fmt.Sprintf("team-%d", i), "", nil, object{})
	}
	for _, s := range services() {
		spec := object{"type": "ClusterSetIP", "ips": s.addrs, "ports": []object{{"name": "http", "protocol": "TCP", "port": port}}}
		if s.headless {
			spec["type"], spec["ips"] = "Headless", []string{}
			var found []object
			for i, addr := range s.addrs {
				found = append(found, object{"addresses": []string{addr.String()}, "hostname": fmt.Sprintf("pod-%d", i), "conditions": object{"ready": true}})
			}
			add("/apis/discovery.k8s.io/v1/endpointslices", s.name, s.namespace, map[string]string{
				"multicluster.kubernetes.io/service-name": s.name, "multicluster.kubernetes.io/source-cluster": cluster,
			}, object{"addressType": "IPv4", "endpoints": found, "ports": []object{{"name": "http", "protocol": "TCP", "port": port}}})
		}
		add("/apis/multicluster.x-k8s.io/v1alpha1/serviceimports", s.name, s.namespace, nil, object{"spec": spec})
	}
	return lists
}

func list(apiVersion, kind string) object {
	return object{"apiVersion": apiVersion, "kind": kind, "metadata": object{"resourceVersion": "1"}, "items": []object{}}
}

// serveObjects is an API server for readers: it lists what there is, and in its watches nothing happens. It returns its
// address, and serves until stop is called.
func serveObjects(ctx context.Context) (addr string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting an API server for CoreDNS: %w", err)
	}
	lists := objects()
	ctx, cancel := context.WithCancel(ctx)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		found, known := lists[r.URL.Path]
		query := r.URL.Query()
		switch {
		case r.URL.Path == "/version":
			_ = json.NewEncoder(w).Encode(version.Info{Major: "1", Minor: "36", GitVersion: "v1.36.0"})
		case !known:
			http.NotFound(w, r)
		case query.Get("sendInitialEvents") != "": // as API servers that cannot
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(object{
				"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Invalid", "code": http.StatusUnprocessableEntity,
			})
		case query.Get("watch") != "":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-ctx.Done():
			}
		default:
			_ = json.NewEncoder(w).Encode(found)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return listener.Addr().String(), func() {
		cancel()
		_ = server.Close()
		if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
			return
		}
	}, nil
}
