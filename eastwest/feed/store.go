package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/clusterset/wire/cursor"
)

// The form of a store's file: the magic, a version, the checksum of what follows, and the content. Numbers are varints,
// texts are preceded by their length:
//
//	sequence  saved (seconds, nanoseconds)  clusters  services  revocations
//	clusters, services: their number, then for each resource its name, its version and its value
//	revocations: their number, then for each the cluster, seconds and nanoseconds
//
// Version 1 had no revocations, and is still read.
const (
	magic   = "HANSAFEED"
	version = 2
	header  = len(magic) + 1 + 4
)

// MaxFile is the most that a store's file may have.
const MaxFile = 256 << 20

// ErrCorrupt marks a file that is not what a Store of this version wrote.
var ErrCorrupt = errors.New("not a usable snapshot")

var polynomial = crc32.MakeTable(crc32.Castagnoli)

// Resource is one resource as the hub sent it.
type Resource struct {
	Name, Version string
	Value         []byte
}

// Kept is what a Store keeps. The resources are sorted by name.
type Kept struct {
	// Sequence is the number of the snapshot.
	Sequence uint64
	// Heard is when the hub was last heard. It is the zero time if there is nothing.
	Heard              time.Time
	Clusters, Services []Resource
	// Revocations are sorted by cluster.
	Revocations []clusterset.Revocation
}

// Store keeps the last snapshot in a file. It is for one goroutine. Two stores may share a file, while one process takes over
// from another: what was saved last is what stays.
type Store struct{ path string }

// unfinished is in the names of files that are being written, abandoned when the age is that of files nobody writes any more.
const (
	unfinished = ".new-"
	abandoned  = time.Hour
)

// NewStore returns a store that keeps its snapshot in the file at path. Path with .corrupt, or .new- and a number, appended is
// the store's, too; its directory must be there.
func NewStore(path string) *Store { return &Store{path} }

// Load reads what was saved last; nothing where there is no file. A file that cannot be used is put aside, as PATH.corrupt,
// for a look at it: then the error is ErrCorrupt and says what is wrong.
func (s *Store) Load() (Kept, error) {
	s.tidy()
	data, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return Kept{}, fmt.Errorf("reading the saved snapshot: %w", err)
	}
	var kept Kept
	if err == nil {
		if kept, err = decode(data); err == nil {
			return kept, nil
		}
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	aside := s.path + ".corrupt"
	if moved := os.Rename(s.path, aside); moved != nil {
		return Kept{}, fmt.Errorf("%s is ignored, and could not be put aside (%w): %w", s.path, moved, err)
	}
	return Kept{}, fmt.Errorf("%s is ignored, and is %s now: %w", s.path, aside, err)
}

// tidy removes what processes left that died while they saved. What cannot be removed does no harm.
func (s *Store) tidy() {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		return // which reading says
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && strings.HasPrefix(entry.Name(), filepath.Base(s.path)+unfinished) && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(filepath.Join(filepath.Dir(s.path), entry.Name()))
		}
	}
}

// read reads the file, unless it is too large.
func (s *Store) read() ([]byte, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err //nolint:wrapcheck // an fs.PathError names the file
	}
	if !info.Mode().IsRegular() || info.Size() > MaxFile {
		return nil, fmt.Errorf("%w: it has %d bytes and mode %s, and a file of at most %d bytes was expected", ErrCorrupt, info.Size(), info.Mode(), MaxFile)
	}
	return os.ReadFile(s.path) //nolint:wrapcheck // an fs.PathError names the file
}

// Save replaces what was saved. When it returns without an error, the new snapshot is on disk; until then the old one is.
func (s *Store) Save(kept Kept) error {
	data := encode(kept)
	if len(data) > MaxFile {
		return fmt.Errorf("saving the snapshot to %s: it has %d bytes, more than %d", s.path, len(data), MaxFile)
	}
	if err := s.write(data); err != nil {
		return fmt.Errorf("saving the snapshot to %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) write(data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+unfinished+"*")
	if err != nil {
		return err //nolint:wrapcheck // Save says what was attempted
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), s.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	directory, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err //nolint:wrapcheck // Save says what was attempted
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func encode(kept Kept) []byte {
	size := header + 64
	for _, list := range [][]Resource{kept.Clusters, kept.Services} {
		for _, r := range list {
			size += len(r.Name) + len(r.Version) + len(r.Value) + 16
		}
	}
	data := append(make([]byte, 0, size), magic...)
	data = append(data, version, 0, 0, 0, 0)
	data = binary.AppendUvarint(data, kept.Sequence)
	data = appendTime(data, kept.Heard)
	for _, list := range [][]Resource{kept.Clusters, kept.Services} {
		data = binary.AppendUvarint(data, uint64(len(list)))
		for _, r := range list {
			data = appendText(data, r.Name)
			data = appendText(data, r.Version)
			data = appendText(data, r.Value)
		}
	}
	data = binary.AppendUvarint(data, uint64(len(kept.Revocations)))
	for _, r := range kept.Revocations {
		data = appendText(data, r.Cluster)
		data = appendTime(data, r.Before)
	}
	binary.BigEndian.PutUint32(data[header-4:], crc32.Checksum(data[header:], polynomial))
	return data
}

func appendText[T ~string | ~[]byte](data []byte, text T) []byte {
	return append(binary.AppendUvarint(data, uint64(len(text))), text...)
}

func appendTime(data []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(data, t.Unix()), uint64(t.Nanosecond())) //nolint:gosec // G115: not negative
}

func decode(data []byte) (Kept, error) {
	switch {
	case len(data) < header || string(data[:len(magic)]) != magic:
		return Kept{}, fmt.Errorf("it does not begin with %q", magic)
	case data[len(magic)] < 1 || data[len(magic)] > version:
		return Kept{}, fmt.Errorf("it has version %d, and this program reads 1 to %d", data[len(magic)], version)
	}
	if got, want := crc32.Checksum(data[header:], polynomial), binary.BigEndian.Uint32(data[header-4:]); got != want {
		return Kept{}, fmt.Errorf("the checksum is %08x, not %08x", got, want)
	}
	return decodeContent(data[header:], data[len(magic)])
}

func decodeContent(content []byte, version byte) (Kept, error) {
	d := &decoder{cursor.New(content)}
	kept := Kept{Sequence: d.Number(), Heard: d.time()}
	kept.Clusters, kept.Services = d.resources(), d.resources()
	if version >= 2 {
		kept.Revocations = d.revocations()
	}
	if err := d.End(); err != nil {
		return Kept{}, err //nolint:wrapcheck // who opened the file says which it is
	}
	return kept, nil
}

// decoder reads content.
type decoder struct{ cursor.Cursor }

func (d *decoder) time() time.Time {
	seconds, nanoseconds := d.Signed(), d.Number()
	if nanoseconds >= uint64(time.Second) {
		d.Fail("a time has %d nanoseconds", nanoseconds)
		return time.Time{}
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC()
}

func (d *decoder) revocations() []clusterset.Revocation {
	var list []clusterset.Revocation
	for n := d.Count(3); n > 0 && d.Err() == nil; n-- {
		r := clusterset.Revocation{Cluster: string(d.Block()), Before: d.time()}
		if last := len(list) - 1; d.Err() == nil && last >= 0 && list[last].Cluster >= r.Cluster {
			d.Fail("the revocation of cluster %q follows that of cluster %q", r.Cluster, list[last].Cluster)
		}
		list = append(list, r)
	}
	if d.Err() != nil {
		return nil
	}
	return list
}

func (d *decoder) resources() []Resource {
	n := d.Count(3)
	list := make([]Resource, 0, n)
	for range n {
		r := Resource{Name: string(d.Block()), Version: string(d.Block()), Value: d.Block()}
		if last := len(list) - 1; d.Err() == nil && last >= 0 && list[last].Name >= r.Name {
			d.Fail("resource %q follows %q", r.Name, list[last].Name)
		}
		list = append(list, r)
	}
	if d.Err() != nil {
		return nil
	}
	return list
}
