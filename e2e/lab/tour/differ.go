package tour

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hansa-dev/hansa/overrides"
)

// valueWidth is where a value is cut off in the table.
const valueWidth = 48

// differences shows the values of a real object at all paths that overrides touch in any cluster, so that the rows of
// one object can be compared: "replicas 5, image nginx:1.17.0-alpine".
func differences(kind string, object map[string]any, patches overrides.Overrides) string {
	var paths, parts []string
	for _, cluster := range slices.Sorted(maps.Keys(patches)) {
		for _, patch := range patches[cluster] {
			if !slices.Contains(paths, patch.Path) {
				paths = append(paths, patch.Path)
			}
		}
	}
	for _, path := range paths {
		value, found := lookup(object, path)
		if kind == "Secret" {
			value = sizes(value)
		}
		parts = append(parts, describe(tokens(path), value, found))
	}
	return strings.Join(parts, ", ")
}

// describe says what is at a path. Labels and annotations are told by their key and value.
func describe(path []string, value any, found bool) string {
	last := len(path) - 1
	for last > 0 && isIndex(path[last]) {
		last--
	}
	name := path[last]
	inMap := last > 0 && (path[last-1] == "labels" || path[last-1] == "annotations")
	if inMap {
		name = strings.TrimSuffix(path[last-1], "s") + " " + name
	}
	switch {
	case !found:
		return "no " + name
	case inMap:
		return name + "=" + show(value)
	default:
		return name + " " + show(value)
	}
}

// show prints maps as key=value and everything else as JSON without quotes, not too long.
func show(value any) string {
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case map[string]any:
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, key+"="+show(v[key]))
		}
		text = strings.Join(pairs, " ")
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprintf("(%v)", err)
		}
		text = string(data)
	}
	if runes := []rune(text); len(runes) > valueWidth {
		text = string(runes[:valueWidth-1]) + "…"
	}
	return text
}

// sizes replaces the values of a Secret by their lengths: what is secret stays out of terminals and logs.
func sizes(value any) any {
	switch v := value.(type) {
	case map[string]any:
		shown := map[string]any{}
		for key, item := range v {
			shown[key] = sizes(item)
		}
		return shown
	case string:
		if raw, err := base64.StdEncoding.DecodeString(v); err == nil {
			return fmt.Sprintf("(%d bytes)", len(raw))
		}
	}
	return "(hidden)"
}

// mismatch tells which override of a cluster is not to be seen in the real object, "" if all are.
func mismatch(object map[string]any, patches []overrides.Patch) string {
	last := map[string]overrides.Patch{} // a later patch of the same path wins
	for _, patch := range patches {
		last[patch.Path] = patch
	}
	for _, path := range slices.Sorted(maps.Keys(last)) {
		patch := last[path]
		value, found := lookup(object, path)
		switch {
		case patch.Op == "remove" && found:
			return path + " is still there"
		case patch.Op != "remove" && !alike(patch.Value, value):
			if !found {
				return path + " is missing"
			}
			return path + " has another value"
		}
	}
	return ""
}

// alike compares a wanted with a stored value. The API server stores null in a map of strings as the empty string, and
// leaves out what is empty.
func alike(want, have any) bool {
	switch w := want.(type) {
	case nil:
		return have == nil || have == ""
	case map[string]any:
		h, ok := have.(map[string]any)
		if (!ok && have != nil) || len(h) > len(w) {
			return false
		}
		for key, value := range w {
			if !alike(value, h[key]) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		return ok && slices.EqualFunc(w, h, alike)
	default:
		return reflect.DeepEqual(want, have)
	}
}

// lookup follows a JSON pointer.
func lookup(object any, path string) (value any, found bool) {
	value = object
	for _, token := range tokens(path) {
		switch v := value.(type) {
		case map[string]any:
			if value, found = v[token]; !found {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// tokens splits a JSON pointer (RFC 6901).
func tokens(path string) []string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
	}
	return parts
}

func isIndex(token string) bool {
	_, err := strconv.Atoi(token)
	return err == nil || token == "-"
}
