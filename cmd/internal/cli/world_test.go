package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// worldVariable names a file with the objects of a host cluster, which the programs of the scripts use in the place of a
// real one. Besides objects of the API it holds documents of kind Record: what the hub knows of a member. AGO(5m) is the
// time five minutes ago.
const worldVariable = "WORLD"

// record is a document of kind Record.
type record struct {
	Member   string      `json:"member"`
	ID       string      `json:"id"`
	Time     metav1.Time `json:"time"`
	Services []struct {
		Name      string             `json:"name"` // NAMESPACE/NAME
		Created   metav1.Time        `json:"created"`
		Invalid   bool               `json:"invalid"`
		Headless  bool               `json:"headless"`
		Unread    bool               `json:"unread"`
		Ports     []recordedPort     `json:"ports"`
		Endpoints []recordedEndpoint `json:"endpoints"`
		Imports   []netip.Addr       `json:"imports"`
	} `json:"services"`
}

type recordedPort struct {
	Name   string `json:"name"`
	Port   int32  `json:"port"`
	Target uint16 `json:"target"`
}

type recordedEndpoint struct {
	Addr     netip.Addr `json:"addr"`
	Zone     string     `json:"zone"`
	Node     string     `json:"node"`
	State    string     `json:"state"` // Ready, NotReady or Terminating; default Ready
	Hostname string     `json:"hostname"`
}

var ago = regexp.MustCompile(`AGO\(([^)]*)\)`)

// dialWorld makes a host cluster out of the file that worldVariable names.
func dialWorld(program string) func() (*host, error) {
	return func() (*host, error) {
		text, err := os.ReadFile(os.Getenv(worldVariable))
		if err != nil {
			return nil, err
		}
		now := time.Now()
		text = ago.ReplaceAllFunc(text, func(match []byte) []byte {
			d, err := time.ParseDuration(string(ago.FindSubmatch(match)[1]))
			if err != nil {
				panic(err)
			}
			return []byte(now.Add(-d).UTC().Format(metav1.RFC3339Micro)) // as Leases want it; the others take it too
		})
		return newWorld(program, string(text))
	}
}

func newWorld(program, text string) (*host, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(
		corev1.AddToScheme(scheme), corev1b1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme), gatewayv1.Install(scheme),
	); err != nil {
		return nil, err
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	var records []exports.Record
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", document, err)
		}
		if u.GetKind() != "Record" {
			u.SetNamespace(or(u.GetNamespace(), api.DefaultNamespace))
			builder.WithObjects(u)
			continue
		}
		var r record
		if err := yaml.UnmarshalStrict([]byte(strings.Replace(document, "kind: Record", "", 1)), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", document, err)
		}
		records = append(records, r.written())
	}
	made := interceptor.NewClient(builder.Build(), interceptor.Funcs{
		Create: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
			object.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second))) // as API servers do
			return inner.Create(ctx, object, options...)
		},
	})
	for i := range records {
		if err := exports.NewConfigMaps(made, made, api.DefaultNamespace).Store(context.Background(), &records[i]); err != nil {
			return nil, err
		}
	}
	return &host{
		program: program, context: "hub", namespace: api.DefaultNamespace, config: &rest.Config{Host: "https://hub"},
		client: made, archive: exports.NewConfigMaps(made, made, api.DefaultNamespace),
	}, nil
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (r *record) written() exports.Record {
	known := clusterset.Known{
		Exports: map[clusterset.Key]clusterset.Export{}, Endpoints: map[clusterset.Key]clusterset.Endpoints{}, Imports: map[clusterset.Key]clusterset.Import{},
	}
	for _, s := range r.Services {
		namespace, name, _ := strings.Cut(s.Name, "/")
		key := client.ObjectKey{Namespace: namespace, Name: name}
		export := clusterset.Export{Created: s.Created.Time, Properties: &clusterset.Properties{Headless: s.Headless}}
		group := clusterset.Group{}
		for _, port := range s.Ports {
			export.Properties.Ports = append(export.Properties.Ports, clusterset.Port{Name: port.Name, Port: port.Port})
			group.Ports = append(group.Ports, clusterset.TargetPort{Name: clusterset.Intern(port.Name), Port: port.Target})
		}
		if s.Invalid {
			export.Properties = nil
		}
		for _, e := range s.Endpoints {
			conditions := map[string]clusterset.Conditions{
				"": clusterset.Ready | clusterset.Serving, "NotReady": 0, "Terminating": clusterset.Terminating,
			}[e.State]
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
				Addr: e.Addr, Zone: clusterset.Intern(e.Zone), Node: clusterset.Intern(e.Node), Hostname: clusterset.Intern(e.Hostname), Conditions: conditions,
			})
		}
		if r.Member != "" && len(s.Imports) > 0 {
			known.Imports[key] = clusterset.Import{ClusterIPs: s.Imports}
		}
		if s.Ports != nil || s.Invalid || s.Headless {
			known.Exports[key] = export
			if !s.Unread {
				known.Endpoints[key] = clusterset.Endpoints{Groups: []clusterset.Group{group}}
			}
		}
	}
	return exports.Record{Member: r.Member, ID: r.ID, Time: r.Time.Time, Known: known}
}
