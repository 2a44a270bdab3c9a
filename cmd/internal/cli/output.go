package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/liggitt/tabwriter"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// quiet is how long a command may work before it says what it is doing.
const quiet = 2 * time.Second

// patience tells a person after a while what a command waits for, unless it is done before. The returned function ends
// it; it has to be called.
func (p *program) patience(format string, args ...any) func() {
	var once sync.Once
	timer := time.AfterFunc(quiet, func() {
		fmt.Fprintf(p.streams.ErrOut, format+"\n", args...)
	})
	return func() { once.Do(func() { timer.Stop() }) }
}

func (p *program) say(format string, args ...any) {
	fmt.Fprintf(p.streams.Out, format+"\n", args...)
}

func (p *program) warn(format string, args ...any) {
	fmt.Fprintf(p.streams.ErrOut, "warning: "+format+"\n", args...)
}

// writeYAML writes objects as YAML documents, each after "---", as KubeFed does. Status and creation time are left out:
// the documents are meant to be applied.
func writeYAML(w io.Writer, objects ...any) error {
	for _, object := range objects {
		content, err := toContent(object)
		if err != nil {
			return err
		}
		unstructured.RemoveNestedField(content, "status")
		unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
		data, err := yaml.Marshal(content)
		if err != nil {
			return fmt.Errorf("encoding YAML: %w", err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", data); err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
	}
	return nil
}

func toContent(object any) (map[string]any, error) {
	if u, ok := object.(*unstructured.Unstructured); ok {
		return u.DeepCopy().Object, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("encoding an object: %w", err)
	}
	return content, nil
}

// writeValue prints one value as JSON or YAML.
func writeValue(w io.Writer, format string, value any) error {
	data, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return fmt.Errorf("encoding JSON: %w", err)
	}
	if format == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("encoding YAML: %w", err)
		}
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(data), "\n"))
	return err
}

// table is what a person reads: a header and rows of cells.
type table struct {
	header []string
	rows   [][]string
}

// write prints a table to a writer of printers.GetNewTabWriter, which remembers the widths of its columns for the rows
// that come later; the header only if asked for.
func (t table) write(out *tabwriter.Writer, header bool) error {
	if header {
		if _, err := fmt.Fprintln(out, strings.Join(t.header, "\t")); err != nil {
			return err
		}
	}
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = orNone(cell)
		}
		if _, err := fmt.Fprintln(out, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return out.Flush()
}

func orNone(cell string) string {
	if cell == "" {
		return "<none>"
	}
	return cell
}
