package wire

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/clusterset/wire/cursor"
)

// The form of a shard: the magic, a version, the checksum of what follows, and gzip of the content. Version 2 added the
// ports of gateways to imports; version 1 is still read.
const (
	magic   = "HKN"
	version = 2
	header  = len(magic) + 1 + 4
)

// Bounds of a shard.
const (
	// MaxEncoded is the most that a shard may have, so that it fits an object of the API after base64.
	MaxEncoded = 768 << 10
	// maxContent bounds what a shard may unfold to.
	maxContent = 16 << 20
	// target is about how much content a shard should have: small enough that one change rewrites little.
	target = 96 << 10
	// MaxShards is the most that one cluster is split into.
	MaxShards = 256
)

// ErrCorrupt marks what is no shard, or is one no more.
var ErrCorrupt = errors.New("corrupt")

var polynomial = crc32.MakeTable(crc32.Castagnoli)

// Shards returns the number of shards for what is known, given the number that is in use (0 for none). It is a power of two,
// grows when shards grow too large, and shrinks only when they are much too small, so that keys seldom move.
func Shards(known clusterset.Known, inUse int) int {
	size := 0
	for _, e := range known.Endpoints {
		size += 64
		for i := range e.Groups {
			size += 16 + 24*len(e.Groups[i].Endpoints)
		}
	}
	size += 128*len(known.Exports) + 64*len(known.Imports)
	wanted := 1
	for wanted < MaxShards && size/wanted > target {
		wanted *= 2
	}
	if wanted < inUse && wanted*4 >= inUse {
		return inUse
	}
	return wanted
}

// ShardOf returns the shard that a service belongs to.
func ShardOf(key clusterset.Key, shards int) int {
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, key.Namespace+"/"+key.Name) // never fails
	return int(hash.Sum32() % uint32(shards))               //nolint:gosec // G115: at most MaxShards
}

// Split divides what is known by service.
func Split(known clusterset.Known, shards int) []clusterset.Known {
	parts := make([]clusterset.Known, shards)
	for i := range parts {
		parts[i] = empty()
	}
	for key, export := range known.Exports {
		parts[ShardOf(key, shards)].Exports[key] = export
	}
	for key, endpoints := range known.Endpoints {
		parts[ShardOf(key, shards)].Endpoints[key] = endpoints
	}
	for key, i := range known.Imports {
		parts[ShardOf(key, shards)].Imports[key] = i
	}
	return parts
}

// Merge adds what one shard holds to a whole, and returns it.
func Merge(whole, part clusterset.Known) clusterset.Known {
	if whole.Exports == nil {
		whole = empty()
	}
	maps.Copy(whole.Exports, part.Exports)
	maps.Copy(whole.Endpoints, part.Endpoints)
	maps.Copy(whole.Imports, part.Imports)
	return whole
}

// Encode writes one shard. Equal content gives equal bytes.
func Encode(known clusterset.Known) ([]byte, error) {
	e := &encoder{index: map[string]uint64{}}
	e.known(known)
	var content bytes.Buffer
	content.Write(binary.AppendUvarint(nil, uint64(len(e.words))))
	for _, word := range e.words {
		content.Write(binary.AppendUvarint(nil, uint64(len(word))))
		content.WriteString(word)
	}
	content.Write(e.body)
	if content.Len() > maxContent {
		return nil, fmt.Errorf("a shard has %d bytes of content, more than %d: %s", content.Len(), maxContent, largest(known))
	}
	var packed bytes.Buffer
	packed.Write(make([]byte, header))
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("packing a shard: %w", err)
	}
	if _, err := zip.Write(content.Bytes()); err != nil {
		return nil, fmt.Errorf("packing a shard: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("packing a shard: %w", err)
	}
	data := packed.Bytes()
	copy(data, magic)
	data[len(magic)] = version
	binary.BigEndian.PutUint32(data[len(magic)+1:], crc32.Checksum(data[header:], polynomial))
	if len(data) > MaxEncoded {
		return nil, fmt.Errorf("a shard has %d bytes, more than %d: %s", len(data), MaxEncoded, largest(known))
	}
	return data, nil
}

// largest names the service with most endpoints, for an error.
func largest(known clusterset.Known) string {
	var most clusterset.Key
	count := -1
	for _, key := range sorted(known.Endpoints) {
		n := 0
		for _, group := range known.Endpoints[key].Groups {
			n += len(group.Endpoints)
		}
		if n > count {
			most, count = key, n
		}
	}
	return fmt.Sprintf("its largest service is %s with %d endpoints", most, count)
}

// Decode reads one shard. What is no shard gives an error that is ErrCorrupt and names what is wrong.
func Decode(data []byte) (clusterset.Known, error) {
	content, err := unpack(data)
	if err != nil {
		return clusterset.Known{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	known, err := decode(content, data[len(magic)])
	if err != nil {
		return clusterset.Known{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return known, nil
}

func decode(content []byte, version byte) (clusterset.Known, error) {
	d := &decoder{Cursor: cursor.New(content), version: version}
	known := d.known()
	return known, d.End()
}

func unpack(data []byte) ([]byte, error) {
	switch {
	case len(data) < header || string(data[:len(magic)]) != magic:
		return nil, fmt.Errorf("it does not begin with %q", magic)
	case data[len(magic)] < 1 || data[len(magic)] > version:
		return nil, fmt.Errorf("it has version %d, and this program reads 1 to %d", data[len(magic)], version)
	case len(data) > MaxEncoded:
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxEncoded)
	}
	if got, want := crc32.Checksum(data[header:], polynomial), binary.BigEndian.Uint32(data[len(magic)+1:]); got != want {
		return nil, fmt.Errorf("the checksum is %08x, not %08x", got, want)
	}
	zip, err := gzip.NewReader(bytes.NewReader(data[header:]))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(zip, maxContent+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	if len(content) > maxContent {
		return nil, fmt.Errorf("it unfolds to more than %d bytes", maxContent)
	}
	return content, nil
}

func empty() clusterset.Known {
	return clusterset.Known{
		Exports:   map[clusterset.Key]clusterset.Export{},
		Endpoints: map[clusterset.Key]clusterset.Endpoints{},
		Imports:   map[clusterset.Key]clusterset.Import{},
	}
}

func sorted[V any](m map[clusterset.Key]V) []clusterset.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b clusterset.Key) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}
