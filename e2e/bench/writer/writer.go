// Package writer is the plain client that the benchmarks compare the hub with, and use to write federated objects: a
// process of its own with client-go's dynamic client, no limit of requests per second and connections that are open
// before the clock starts.
//
// Commands come as JSON, one per line; each is answered by a line of JSON.
package writer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// Verbs of a Command.
const (
	Create = "create"
	Patch  = "patch" // a JSON merge patch
	Delete = "delete"
)

// Command asks for Count objects, each written to every target: the first object to all targets, then the second, and
// so on, Parallel requests at a time.
type Command struct {
	Verb     string   `json:"verb"`
	First    int      `json:"first"` // number of the first object
	Count    int      `json:"count"`
	Parallel int      `json:"parallel"`
	Targets  []Target `json:"targets"`
}

// Target is where and what to write.
type Target struct {
	Context   string                      `json:"context"` // of the kubeconfig
	Resource  schema.GroupVersionResource `json:"resource"`
	Namespace string                      `json:"namespace"`
	Body      map[string]any              `json:"body,omitempty"` // the object but for its name, or the patch
}

// Reply tells when the first request was sent and when the last was answered.
type Reply struct {
	Sent     int64  `json:"sent"`     // nanoseconds since 1970, as are the times that watches note
	Answered int64  `json:"answered"` // likewise
	Failed   int    `json:"failed"`   // requests that got an error
	Error    string `json:"error,omitempty"`
}

// Name returns the name of the object with that number.
func Name(number int) string { return fmt.Sprintf("bench-%05d", number) }

// Serve carries out the commands that come from in until it ends. contexts are those of the kubeconfig that will be
// written to; a connection to each is opened first, and an empty Reply says that all is ready.
func Serve(ctx context.Context, kubeconfig string, contexts []string, in io.Reader, out io.Writer) error {
	clients := map[string]dynamic.Interface{}
	for _, name := range contexts {
		client, err := connect(ctx, kubeconfig, name)
		if err != nil {
			return err
		}
		clients[name] = client
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode(Reply{}); err != nil {
		return fmt.Errorf("writing an answer: %w", err)
	}
	commands := json.NewDecoder(bufio.NewReader(in))
	for {
		var command Command
		err := commands.Decode(&command)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		if err := answers.Encode(command.run(ctx, clients)); err != nil {
			return fmt.Errorf("writing an answer: %w", err)
		}
	}
}

func connect(ctx context.Context, kubeconfig, name string) (dynamic.Interface, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %s of %s: %w", name, kubeconfig, err)
	}
	config.QPS = -1
	config.UserAgent = "hansa-bench"
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("context %s of %s: %w", name, kubeconfig, err)
	}
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	if _, err := client.Resource(namespaces).Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", name, err)
	}
	return client, nil
}

func (c Command) run(ctx context.Context, clients map[string]dynamic.Interface) Reply {
	var (
		reply   = Reply{Sent: time.Now().UnixNano()}
		next    = make(chan int)
		mu      sync.Mutex
		workers sync.WaitGroup
	)
	for range max(c.Parallel, 1) {
		workers.Go(func() {
			for i := range next {
				target := c.Targets[i%len(c.Targets)]
				if err := target.write(ctx, clients[target.Context], c.Verb, Name(c.First+i/len(c.Targets))); err != nil {
					mu.Lock()
					reply.Failed++
					reply.Error = err.Error()
					mu.Unlock()
				}
			}
		})
	}
	for i := range c.Count * len(c.Targets) {
		next <- i
	}
	close(next)
	workers.Wait()
	reply.Answered = time.Now().UnixNano()
	return reply
}

func (t Target) write(ctx context.Context, client dynamic.Interface, verb, name string) error {
	if client == nil {
		return fmt.Errorf("no connection to %s: name it when the writer is started", t.Context)
	}
	objects := client.Resource(t.Resource).Namespace(t.Namespace)
	var err error
	switch verb {
	case Create:
		// Only the top and the metadata differ between objects; nobody changes what lies below.
		object := maps.Clone(t.Body)
		metadata := map[string]any{"name": name, "namespace": t.Namespace}
		if given, ok := t.Body["metadata"].(map[string]any); ok {
			maps.Copy(metadata, given)
		}
		object["metadata"] = metadata
		_, err = objects.Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	case Patch:
		var body []byte
		if body, err = json.Marshal(t.Body); err == nil {
			_, err = objects.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
		}
	case Delete:
		err = objects.Delete(ctx, name, metav1.DeleteOptions{})
	default:
		err = errors.New("no such verb")
	}
	if err != nil {
		return fmt.Errorf("%s %s %s/%s in %s: %w", verb, t.Resource.Resource, t.Namespace, name, t.Context, err)
	}
	return nil
}
