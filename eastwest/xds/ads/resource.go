package ads

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Key names a resource. The name is opaque: xdstp names are names like others.
type Key struct {
	Type string // type URL
	Name string
}

// Resource is a resource as clients get it. It never changes; any number of views share one.
type Resource struct {
	Key
	body *body
}

// Version returns the hash of what the resource says. Every server that says the same has the same version for it.
func (r Resource) Version() string {
	if r.body == nil {
		return ""
	}
	return r.body.version
}

// body is the content of a resource without its name.
type body struct {
	version string
	any     *anypb.Any
}

// forgotten stands for content that a client has and that this server does not know, or no longer.
var forgotten = &body{}

// same tells whether two bodies say the same; nil is no body.
func same(a, b *body) bool {
	return a == b || a != nil && b != nil && a != forgotten && b != forgotten && a.version == b.version
}

// Encoder encodes resources and keeps equal content once, whatever views it is for. The zero Encoder is ready; it may be
// used by several goroutines.
type Encoder struct {
	mu    sync.Mutex
	known map[string]weak.Pointer[body] // by version
	urls  map[protoreflect.FullName]string
}

// Encode makes a resource of m. Equal messages get equal bytes and an equal version.
func (e *Encoder) Encode(name string, m proto.Message) (Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return Resource{}, fmt.Errorf("encoding %s %q: %w", m.ProtoReflect().Descriptor().FullName(), name, err)
	}
	url := e.url(m.ProtoReflect().Descriptor().FullName())
	return Resource{Key: Key{Type: url, Name: name}, body: e.intern(url, value)}, nil
}

// url returns the type URL of a message: the same string each time, since it stands in every resource.
func (e *Encoder) url(message protoreflect.FullName) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	url, known := e.urls[message]
	if known {
		return url
	}
	if e.urls == nil {
		e.urls = map[protoreflect.FullName]string{}
	}
	url = "type.googleapis.com/" + string(message)
	e.urls[message] = url
	return url
}

// Encoded makes a resource of a message that is encoded already. Nobody may change value any more.
func (e *Encoder) Encoded(url, name string, value []byte) Resource {
	return Resource{Key: Key{Type: url, Name: name}, body: e.intern(url, value)}
}

func (e *Encoder) intern(url string, value []byte) *body {
	version := contentVersion(url, value)
	e.mu.Lock()
	defer e.mu.Unlock()
	if found := e.known[version].Value(); found != nil {
		return found
	}
	made := &body{version: version, any: &anypb.Any{TypeUrl: url, Value: value}}
	if e.known == nil {
		e.known = map[string]weak.Pointer[body]{}
	}
	e.known[version] = weak.Make(made)
	runtime.AddCleanup(made, e.forget, version)
	return made
}

// forget drops what nobody uses any more, unless the same content came back meanwhile.
func (e *Encoder) forget(version string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[version].Value() == nil {
		delete(e.known, version)
	}
}

// contentVersion hashes the type and the bytes. Twelve bytes keep accidental collisions out of reach.
func contentVersion(url string, value []byte) string {
	h := sha256.New()
	h.Write([]byte(url))
	h.Write([]byte{0})
	h.Write(value)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// digest is the hash of a set of resources, kept up to date in constant time as resources come and go: the sum of the
// hashes of its elements, which does not depend on their order.
type digest [2]uint64

func (d digest) plus(name string, b *body) digest {
	x := element(name, b)
	return digest{d[0] + x[0], d[1] + x[1]}
}

func (d digest) minus(name string, b *body) digest {
	x := element(name, b)
	return digest{d[0] - x[0], d[1] - x[1]}
}

func (d digest) String() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], d[0])
	binary.BigEndian.PutUint64(raw[8:], d[1])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func element(name string, b *body) digest {
	buf := make([]byte, 0, 128)
	buf = append(buf, name...)
	buf = append(buf, 0)
	buf = append(buf, b.version...)
	sum := sha256.Sum256(buf)
	return digest{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])}
}
