package servicepb

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The numbers of the fields that are decoded here.
const (
	serviceNamespace, serviceName, serviceSources, serviceImports, servicePolicy      = 1, 2, 3, 4, 5
	sourceCluster, sourceCreated, sourceProperties, sourceEndpoints                   = 1, 2, 3, 4
	endpointsGroups, groupPorts, groupEndpoints                                       = 1, 1, 2
	endpointAddress, endpointConditions, endpointNode, endpointZone, endpointHostname = 1, 2, 3, 4, 5
)

// Facts are what a Service says, as a clusterset.Builder takes it. Nobody modifies them.
type Facts struct {
	Key     clusterset.Key
	Sources []clusterset.Source
	Imports []clusterset.Import
	Policy  *clusterset.Policy
}

// Decoder reads Services. It makes no messages of endpoints: an agent reads ten thousands of them when it starts, and each
// would be some allocations. The zero value is ready; it keeps the names that it meets, so one is for one response or one
// file. It is for one goroutine.
type Decoder struct {
	names map[string]clusterset.Name

	// encoded and properties are those of the last source: most clusters export the same.
	encoded    []byte
	properties *clusterset.Properties
}

// Service reads the Service that a resource with this name holds. The error says what is wrong with it, and does not name
// it.
func (d *Decoder) Service(name string, value []byte) (*Facts, error) {
	if len(value) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(value), MaxBytes)
	}
	f, policy := &Facts{}, (*Policy)(nil)
	err := eachField(value, func(number protowire.Number, v field) (err error) {
		switch {
		case v.kind != protowire.BytesType:
		case number == serviceNamespace:
			f.Key.Namespace, err = v.text()
		case number == serviceName:
			f.Key.Name, err = v.text()
		case number == serviceSources:
			return d.source(f, v.bytes)
		case number == serviceImports:
			return f.readImport(v.bytes)
		case number == servicePolicy:
			if policy == nil {
				policy = &Policy{}
			}
			return merge(v.bytes, policy)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case f.Key.Namespace == "" || f.Key.Name == "" || f.Key.Namespace+"/"+f.Key.Name != name:
		return nil, fmt.Errorf("it is about service %q in namespace %q", f.Key.Name, f.Key.Namespace)
	}
	if f.Policy, err = policy.decode(); err != nil {
		return nil, err
	}
	return f, nil
}

func (d *Decoder) source(f *Facts, b []byte) error {
	var source clusterset.Source
	var created *Instant
	var properties []byte
	err := eachField(b, func(number protowire.Number, v field) (err error) {
		switch {
		case v.kind != protowire.BytesType:
		case number == sourceCluster:
			source.Cluster, err = v.text()
		case number == sourceCreated:
			if created == nil {
				created = &Instant{}
			}
			return merge(v.bytes, created)
		case number == sourceProperties:
			// A message that occurs twice is the same as its bytes one after the other; that it is there is what nil says.
			properties = append(properties, v.bytes...)
			if properties == nil {
				properties = []byte{}
			}
		case number == sourceEndpoints:
			if source.Endpoints == nil {
				source.Endpoints = &clusterset.Endpoints{}
			}
			return d.endpoints(source.Endpoints, v.bytes)
		}
		return err
	})
	last := ""
	if n := len(f.Sources); n > 0 {
		last = f.Sources[n-1].Cluster
	}
	var wrongTime, wrongProperties error
	source.Created, wrongTime = created.decode()
	source.Properties, wrongProperties = d.sourceProperties(properties)
	if err := errors.Join(err, inOrder(last, source.Cluster), wrongTime, wrongProperties); err != nil {
		return fmt.Errorf("cluster %q: %w", source.Cluster, err)
	}
	source.Cluster = d.name([]byte(source.Cluster)).String()
	f.Sources = append(f.Sources, source)
	return nil
}

func (d *Decoder) sourceProperties(b []byte) (*clusterset.Properties, error) {
	if b == nil {
		return nil, nil //nolint:nilnil // nil says that there is no Service
	}
	if d.properties != nil && bytes.Equal(b, d.encoded) {
		return d.properties, nil
	}
	m := &Properties{}
	if err := merge(b, m); err != nil {
		return nil, err
	}
	d.encoded, d.properties = b, m.decode()
	return d.properties, nil
}

func (f *Facts) readImport(b []byte) error {
	m := &Import{}
	if err := merge(b, m); err != nil {
		return err
	}
	last := ""
	if n := len(f.Imports); n > 0 {
		last = f.Imports[n-1].Cluster
	}
	decoded, err := m.decode(last)
	f.Imports = append(f.Imports, decoded)
	return err
}

func (d *Decoder) endpoints(to *clusterset.Endpoints, b []byte) error {
	return eachField(b, func(number protowire.Number, v field) error {
		if number != endpointsGroups || v.kind != protowire.BytesType {
			return nil
		}
		var group clusterset.Group
		err := d.group(&group, v.bytes)
		to.Groups = append(to.Groups, group)
		return err
	})
}

func (d *Decoder) group(to *clusterset.Group, b []byte) error {
	count := 0
	if err := eachField(b, func(number protowire.Number, _ field) error {
		if number == groupEndpoints {
			count++
		}
		return nil
	}); err != nil {
		return err
	}
	to.Endpoints = make([]clusterset.Endpoint, 0, count)
	return eachField(b, func(number protowire.Number, v field) error {
		switch {
		case v.kind != protowire.BytesType:
		case number == groupPorts:
			port, err := d.targetPort(v.bytes)
			to.Ports = append(to.Ports, port)
			return err
		case number == groupEndpoints:
			endpoint, err := d.endpoint(v.bytes)
			to.Endpoints = append(to.Endpoints, endpoint)
			return err
		}
		return nil
	})
}

func (d *Decoder) targetPort(b []byte) (clusterset.TargetPort, error) {
	m := &TargetPort{}
	if err := merge(b, m); err != nil {
		return clusterset.TargetPort{}, err
	}
	number, err := decodePort(m.GetPort())
	return clusterset.TargetPort{Name: d.name([]byte(m.GetName())), Protocol: corev1.Protocol(m.GetProtocol()), Port: number}, err
}

func (d *Decoder) endpoint(b []byte) (clusterset.Endpoint, error) {
	var e clusterset.Endpoint
	var address []byte
	conditions := uint32(0)
	err := eachField(b, func(number protowire.Number, v field) (err error) {
		switch {
		case number == endpointConditions && v.kind == protowire.VarintType:
			conditions = uint32(v.number) //nolint:gosec // G115: as protocol buffers read it
		case v.kind != protowire.BytesType:
		case number == endpointAddress:
			address = v.bytes
		case number == endpointNode:
			e.Node, err = d.valid(v.bytes)
		case number == endpointZone:
			e.Zone, err = d.valid(v.bytes)
		case number == endpointHostname:
			e.Hostname, err = d.valid(v.bytes)
		}
		return err
	})
	if err != nil {
		return e, err
	}
	if e.Addr, err = decodeAddr(address); err != nil {
		return e, err
	}
	if conditions > math.MaxUint8 {
		return e, fmt.Errorf("the conditions of endpoint %s are %d", e.Addr, conditions)
	}
	e.Conditions = clusterset.Conditions(conditions)
	return e, nil
}

// name interns, without an allocation if it met the name before.
func (d *Decoder) name(b []byte) clusterset.Name {
	if len(b) == 0 {
		return clusterset.Name{}
	}
	name, known := d.names[string(b)]
	if !known {
		if d.names == nil {
			d.names = map[string]clusterset.Name{}
		}
		name = clusterset.Intern(string(b))
		d.names[name.String()] = name
	}
	return name
}

func (d *Decoder) valid(b []byte) (clusterset.Name, error) {
	name := d.name(b)
	if !utf8.Valid(b) {
		return name, errNotText
	}
	return name, nil
}

var errNotText = errors.New("a text is not UTF-8")

// field is the value of one field: bytes or a number, by its kind. Others are skipped.
type field struct {
	kind   protowire.Type
	bytes  []byte
	number uint64
}

func (f field) text() (string, error) {
	if !utf8.Valid(f.bytes) {
		return "", errNotText
	}
	return string(f.bytes), nil
}

// eachField visits the fields of a message, in the order in which they are.
func eachField(b []byte, visit func(protowire.Number, field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("it is no Service: %w", protowire.ParseError(n))
		}
		b = b[n:]
		v := field{kind: kind}
		switch kind {
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return fmt.Errorf("it is no Service: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if err := visit(number, v); err != nil {
			return err
		}
	}
	return nil
}

// merge adds what b says to m, as a field that occurs twice does.
func merge(b []byte, m proto.Message) error {
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(b, m); err != nil {
		return fmt.Errorf("it has no valid %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
