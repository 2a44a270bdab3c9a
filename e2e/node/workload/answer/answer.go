// Package answer is the shape of what the test server says about itself, which the load client reads. It is pure.
//
// An answer is one JSON object on one line. The fields of Identity are always there, also when they are empty, so
// that a script may rely on them:
//
//	{"cluster":"m1","region":"r1","zone":"z1","node":"m1-n1","namespace":"default","pod":"echo-0","ip":"10.1.1.2",
//	 "version":"v1","hostname":"echo-0","protocol":"http","requests":7,"client":"10.1.1.3:40112",
//	 "server":"10.1.1.2:8080","http":{"method":"GET","path":"/","query":"","host":"echo","proto":"HTTP/1.1",
//	 "headers":{"Accept":"*/*"},"bodyBytes":0}}
//
// Its short form, for people and for `grep`, is one line as well: "m1/z1/echo-0 v1".
package answer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
)

// Names of the protocols, as in Answer.Protocol and in a list of fault.Control.
const (
	HTTP  = "http"
	HTTPS = "https"
	TCP   = "tcp"
	UDP   = "udp"
	GRPC  = "grpc"
	GRPCS = "grpcs"
)

// Protocols lists the names of all protocols.
func Protocols() []string { return []string{HTTP, HTTPS, TCP, UDP, GRPC, GRPCS} }

// Method is the full name of the unary gRPC method; its request and its response are google.protobuf.Struct.
const Method = "/" + Service + "/Echo"

// Service is the name of the gRPC service.
const Service = "hansa.workload.v1.Echo"

// Identity says who answers.
type Identity struct {
	Cluster   string `json:"cluster"`
	Region    string `json:"region"`
	Zone      string `json:"zone"`
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	IP        string `json:"ip"`
	Version   string `json:"version"`
	Hostname  string `json:"hostname"`
}

// Answer is what a request gets.
type Answer struct {
	Identity

	Protocol string `json:"protocol"`
	// Requests counts the requests that the server has got so far, this one included, over all protocols. A TCP
	// connection is one, and so is each of its lines; probes and /control are not counted.
	Requests uint64 `json:"requests"`
	Client   string `json:"client"`         // address that the server sees
	Server   string `json:"server"`         // address that the client reached, unspecified for UDP
	Echo     string `json:"echo,omitempty"` // UDP: the datagram; gRPC: the field "echo" of the request
	HTTP     *Web   `json:"http,omitempty"` // HTTP and HTTPS only
	GRPC     *Call  `json:"grpc,omitempty"` // gRPC only
	TLS      *TLS   `json:"tls,omitempty"`  // encrypted connections only
	Padding  string `json:"padding,omitempty"`
}

// Web is the HTTP part of an answer.
type Web struct {
	Method    string            `json:"method"`
	Path      string            `json:"path"`  // as sent, still escaped
	Query     string            `json:"query"` // as sent, without the question mark
	Host      string            `json:"host"`
	Proto     string            `json:"proto"`     // HTTP/1.1 or HTTP/2.0
	Headers   map[string]string `json:"headers"`   // canonical names; several values are joined by ", "
	BodyBytes int64             `json:"bodyBytes"` // of the request
}

// Call is the gRPC part of an answer.
type Call struct {
	Method    string            `json:"method"`
	Authority string            `json:"authority"`
	Metadata  map[string]string `json:"metadata"` // lower-case names; several values are joined by ", "
}

// TLS is what the client asked for and got.
type TLS struct {
	ServerName string `json:"serverName"`
	Version    string `json:"version"` // like "TLS 1.3"
}

// Name is cluster/zone/pod, with "-" for what is not known.
func (i Identity) Name() string {
	return cmp.Or(i.Cluster, "-") + "/" + cmp.Or(i.Zone, "-") + "/" + cmp.Or(i.Pod, i.Hostname, "-")
}

// Plain is the short form, without a line feed.
func (i Identity) Plain() string { return i.Name() + " " + cmp.Or(i.Version, "-") }

// JSON returns the answer as one line without a line feed.
func (a Answer) JSON() []byte {
	data, err := json.Marshal(a)
	if err != nil { // there is nothing in an Answer that cannot be encoded
		panic(err)
	}
	return data
}

// Join makes a flat map of headers or metadata.
func Join(values map[string][]string) map[string]string {
	flat := make(map[string]string, len(values))
	for name, list := range values {
		flat[name] = strings.Join(list, ", ")
	}
	return flat
}

// Who returns the Name of whoever gave an answer, which may be in either form, and "" if it is not an answer.
func Who(data []byte) string {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '{' {
		var a struct {
			Cluster, Zone, Pod, Hostname string
		}
		if json.Unmarshal(data, &a) != nil || a.Cluster+a.Zone+a.Pod+a.Hostname == "" {
			return ""
		}
		return Identity{Cluster: a.Cluster, Zone: a.Zone, Pod: a.Pod, Hostname: a.Hostname}.Name()
	}
	name, version, ok := strings.Cut(string(data), " ")
	if !ok || strings.Count(name, "/") != 2 || version == "" || strings.ContainsAny(version, " \n") || strings.ContainsAny(name, "<>{}\"") {
		return ""
	}
	return name
}
