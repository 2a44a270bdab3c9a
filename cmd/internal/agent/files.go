package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/dns/zone"
)

// serveFiles serves zone files.
func (o *Options) serveFiles(ctx context.Context, log logr.Logger) error {
	tree, err := readZones(o.ZoneFiles)
	if err != nil {
		return err
	}
	server, err := dns.New(dns.Options{Flags: &o.DNS, Static: tree, Log: log})
	if err != nil {
		return err
	}
	return o.serve(ctx, parts{server: server, log: log})
}

// readZones reads zone files, each [ORIGIN=]FILE.
func readZones(names []string) (tree *zone.Tree, err error) {
	files := make([]zone.File, 0, len(names))
	for _, written := range names {
		origin, name, given := strings.Cut(written, "=")
		if !given {
			origin, name = "", written
		}
		file, err := os.Open(name) //nolint:gosec // G304: the file that the person named
		if err != nil {
			return nil, fmt.Errorf("--zone-file: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		files = append(files, zone.File{Name: name, Origin: origin, Reader: file})
	}
	tree, err = zone.Static(files...)
	if err != nil {
		return nil, fmt.Errorf("--zone-file: %w", err)
	}
	return tree, nil
}
