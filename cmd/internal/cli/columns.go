package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/hansa-dev/hansa/federation/api"
)

// column is one column of a table: its header, how to make a cell of an object, and whether only -o wide shows it.
type column struct {
	header string
	cell   func(object *unstructured.Unstructured) string
	wide   bool
}

// clusterColumns are those of get clusters.
func clusterColumns() []column {
	return []column{
		{header: "READY", cell: condition("Ready", "status")},
		{header: "REASON", cell: condition("Ready", "reason")},
		{header: "VERSION", cell: text("status", "kubernetesVersion")},
		{header: "REGION", cell: text("status", "region")},
		{header: "ZONES", cell: func(o *unstructured.Unstructured) string {
			zones, _, _ := unstructured.NestedStringSlice(o.Object, "status", "zones")
			return strings.Join(zones, ",")
		}, wide: true},
		{header: "ENDPOINT", cell: text("spec", "apiEndpoint"), wide: true},
		{header: "MESSAGE", cell: condition("Ready", "message"), wide: true},
	}
}

// federatedColumns are those of federated kinds. OK counts the clusters that have the object as wanted.
func federatedColumns() []column {
	return []column{
		{header: "PROPAGATED", cell: condition("Propagation", "status")},
		{header: "REASON", cell: condition("Propagation", "reason")},
		{header: "OK", cell: func(o *unstructured.Unstructured) string {
			good, all, _ := clusterStates(o)
			return fmt.Sprintf("%d/%d", good, all)
		}},
		{header: "PROBLEMS", cell: func(o *unstructured.Unstructured) string {
			_, _, problems := clusterStates(o)
			return strings.Join(problems, ", ")
		}, wide: true},
	}
}

// clusterStates counts the clusters in the status of a federated object, and describes the ones that are not fine.
func clusterStates(o *unstructured.Unstructured) (good, all int, problems []string) {
	clusters, _, _ := unstructured.NestedSlice(o.Object, "status", "clusters")
	for _, entry := range clusters {
		state, ok := entry.(map[string]any)
		if !ok {
			continue
		}
		all++
		name, _, _ := unstructured.NestedString(state, "name")
		code, _, _ := unstructured.NestedString(state, "status")
		message, _, _ := unstructured.NestedString(state, "message")
		switch {
		case code == "":
			good++
		case message == "":
			problems = append(problems, name+": "+code)
		default:
			problems = append(problems, name+": "+code+" ("+message+")")
		}
	}
	return good, all, problems
}

// memberColumns are those of a kind in the members. Kinds with replicas show how many are wanted and ready.
func memberColumns(kind metav1.APIResource) []column {
	managed := column{header: "MANAGED", cell: func(o *unstructured.Unstructured) string { return o.GetLabels()[api.ManagedLabel] }, wide: true}
	images := column{header: "IMAGES", cell: images, wide: true}
	switch kind.Group + "/" + kind.Kind {
	case "apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet":
		return []column{
			{header: "WANTED", cell: number("1", "spec", "replicas")},
			{header: "READY", cell: number("0", "status", "readyReplicas")},
			images, managed,
		}
	case "apps/DaemonSet":
		return []column{
			{header: "WANTED", cell: number("0", "status", "desiredNumberScheduled")},
			{header: "READY", cell: number("0", "status", "numberReady")},
			images, managed,
		}
	case "batch/Job":
		return []column{
			{header: "WANTED", cell: number("1", "spec", "completions")},
			{header: "SUCCEEDED", cell: number("0", "status", "succeeded")},
			images, managed,
		}
	case "/Pod":
		return []column{{header: "STATUS", cell: text("status", "phase")}, {header: "NODE", cell: text("spec", "nodeName"), wide: true}, managed}
	case "/Service":
		return []column{{header: "TYPE", cell: text("spec", "type")}, {header: "CLUSTER-IP", cell: text("spec", "clusterIP")}, {header: "PORTS", cell: ports}, managed}
	case "/Namespace":
		return []column{{header: "STATUS", cell: text("status", "phase")}, managed}
	case "/ConfigMap", "/Secret":
		return []column{{header: "DATA", cell: dataKeys}, managed}
	}
	return []column{managed}
}

// headers of a query's table.
func headers(q *query, columns []column, clustered bool) []string {
	var header []string
	if q.namespaced() {
		header = append(header, "NAMESPACE")
	}
	header = append(header, "NAME")
	if clustered {
		header = append(header, "CLUSTER")
	}
	for _, c := range columns {
		if !c.wide || q.output == "wide" {
			header = append(header, c.header)
		}
	}
	return append(header, "AGE")
}

// cells of one object; cluster is empty when the object is of the host.
func cells(q *query, columns []column, cluster string, object *unstructured.Unstructured) []string {
	var row []string
	if q.namespaced() {
		row = append(row, object.GetNamespace())
	}
	row = append(row, object.GetName())
	if cluster != "" {
		row = append(row, cluster)
	}
	for _, c := range columns {
		if !c.wide || q.output == "wide" {
			row = append(row, c.cell(object))
		}
	}
	return append(row, age(object, q.now()))
}

func age(object *unstructured.Unstructured, now time.Time) string {
	created := object.GetCreationTimestamp()
	if created.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(created.Time))
}

// text is a cell with a string field.
func text(path ...string) func(*unstructured.Unstructured) string {
	return func(o *unstructured.Unstructured) string {
		value, _, _ := unstructured.NestedString(o.Object, path...)
		return value
	}
}

// number is a cell with an integer field, or a default when the field is absent.
func number(absent string, path ...string) func(*unstructured.Unstructured) string {
	return func(o *unstructured.Unstructured) string {
		value, found, err := unstructured.NestedInt64(o.Object, path...)
		if err != nil || !found {
			return absent
		}
		return strconv.FormatInt(value, 10)
	}
}

// condition is a cell with a field of a status condition.
func condition(kind, field string) func(*unstructured.Unstructured) string {
	return func(o *unstructured.Unstructured) string {
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, entry := range conditions {
			fields, ok := entry.(map[string]any)
			if ok && fields["type"] == kind {
				value, _, _ := unstructured.NestedString(fields, field)
				return value
			}
		}
		return ""
	}
}

func images(o *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	var found []string
	for _, entry := range containers {
		if container, ok := entry.(map[string]any); ok {
			image, _, _ := unstructured.NestedString(container, "image")
			found = append(found, image)
		}
	}
	return strings.Join(slices.Compact(found), ",")
}

func ports(o *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	var found []string
	for _, entry := range list {
		if port, ok := entry.(map[string]any); ok {
			text := fmt.Sprint(port["port"])
			if node, ok := port["nodePort"]; ok {
				text += fmt.Sprintf(":%v", node)
			}
			if protocol, ok := port["protocol"]; ok {
				text += fmt.Sprintf("/%v", protocol)
			}
			found = append(found, text)
		}
	}
	return strings.Join(found, ",")
}

func dataKeys(o *unstructured.Unstructured) string {
	count := 0
	for _, field := range []string{"data", "binaryData"} {
		if data, ok := o.Object[field].(map[string]any); ok {
			count += len(data)
		}
	}
	return strconv.Itoa(count)
}
