package overrides

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/hansa-dev/hansa/federation/api"
)

// Apply returns a copy of target with the cluster's patches applied in order. It never modifies target or o, and shares
// nothing with them. target is unstructured content: objects, lists, strings, booleans, int64, float64 and nil.
//
// An error names the cluster, the patch and, when the path leads nowhere, its first segment that is missing.
func (o Overrides) Apply(cluster string, target map[string]any) (map[string]any, error) {
	result := runtime.DeepCopyJSON(target)
	if err := o.ApplyTo(cluster, result); err != nil {
		return nil, err
	}
	return result, nil
}

// ApplyTo is Apply for a target that the caller owns: it is changed in place. After an error its content is undefined.
func (o Overrides) ApplyTo(cluster string, target map[string]any) error {
	for i, patch := range o[cluster] {
		if patch.Op == "" {
			patch.Op = Replace
		}
		err := patch.validate()
		if err == nil {
			_, err = edit{Patch: patch, tokens: patch.tokens()}.in(target, 0)
		}
		if err != nil {
			return fmt.Errorf("spec.overrides for cluster %q: clusterOverrides[%d] (%s %s): %w", cluster, i, patch.Op, patch.Path, err)
		}
	}
	return nil
}

// stringMaps are fields of Kubernetes types that are objects of strings whatever their keys look like, so that adding
// /data/0 where there is no data makes an object and not a list.
var stringMaps = []string{"annotations", "labels", "matchLabels", "nodeSelector", "data", "stringData", "binaryData"}

// edit is a patch on its way down an object.
type edit struct {
	Patch
	tokens []string
}

// in applies the patch below node, which is what the first depth tokens lead to, and returns what node has become: a
// list that grows or shrinks is a new one.
func (e edit) in(node any, depth int) (any, error) {
	switch container := node.(type) {
	case map[string]any:
		return container, e.inObject(container, depth)
	case []any:
		return e.inList(container, depth)
	default:
		return nil, fmt.Errorf("%s is %s, so there is nothing below it: shorten the path", e.pointer(depth), api.KindOfJSON(node))
	}
}

func (e edit) inObject(object map[string]any, depth int) error {
	token := e.tokens[depth]
	value, exists := object[token]
	if depth < len(e.tokens)-1 {
		if value == nil {
			var err error
			if value, err = e.newParent(depth); err != nil {
				return err
			}
		}
		changed, err := e.in(value, depth+1)
		if err == nil {
			object[token] = changed
		}
		return err
	}

	switch {
	case e.Op == Add, e.Op == Replace && exists:
		object[token] = runtime.DeepCopyJSONValue(e.Value)
	case e.Op == Remove && (exists || e.isAnnotation()):
		delete(object, token)
	case e.Op == Replace:
		return fmt.Errorf("%s is missing, so there is nothing to replace: use op add", e.pointer(depth+1))
	default:
		return fmt.Errorf("%s is missing, so there is nothing to remove: drop this patch or correct the path", e.pointer(depth+1))
	}
	return nil
}

func (e edit) inList(list []any, depth int) (any, error) {
	last := depth == len(e.tokens)-1
	limit := len(list)
	if last && e.Op == Add {
		limit++
	}
	index, err := e.index(depth, len(list))
	if err != nil {
		return nil, err
	}
	if index >= limit {
		return nil, fmt.Errorf("%s is missing: the list has %d elements, and the first is number 0", e.pointer(depth+1), len(list))
	}
	switch {
	case !last && list[index] == nil:
		return nil, fmt.Errorf("%s is null, so there is nothing below it", e.pointer(depth+1))
	case !last:
		changed, err := e.in(list[index], depth+1)
		if err == nil {
			list[index] = changed
		}
		return list, err
	case e.Op == Add:
		return slices.Insert(list, index, runtime.DeepCopyJSONValue(e.Value)), nil
	case e.Op == Remove:
		return slices.Delete(list, index, index+1), nil
	default:
		list[index] = runtime.DeepCopyJSONValue(e.Value)
		return list, nil
	}
}

// index reads a token as a position in a list: digits without leading zeros, or "-" for the end when adding.
func (e edit) index(depth, length int) (int, error) {
	token := e.tokens[depth]
	if token == "-" && e.Op == Add && depth == len(e.tokens)-1 {
		return length, nil
	}
	index, err := strconv.ParseUint(token, 10, 31)
	if errors.Is(err, strconv.ErrRange) {
		return length + 1, nil
	}
	if err != nil || len(token) > 1 && token[0] == '0' {
		return 0, fmt.Errorf("%s is a list, but %q is not a position in it: use a number from 0, or - to add at the end", e.pointer(depth), token)
	}
	return int(index), nil
}

// newParent makes the missing object or list at the given depth if it is the one that is to hold the new value. Nothing
// deeper is made up: a typing error must not become a field that the cluster drops in silence.
func (e edit) newParent(depth int) (any, error) {
	missing := e.pointer(depth + 1)
	if depth != len(e.tokens)-2 {
		return nil, fmt.Errorf("%s is missing: correct the path, or put %s into the template", missing, missing)
	}
	if e.Op == Remove && e.isAnnotation() {
		return map[string]any{}, nil
	}
	if e.Op != Add {
		return nil, fmt.Errorf("%s is missing: use op add", missing)
	}
	if slices.Contains(stringMaps, e.tokens[depth]) {
		return map[string]any{}, nil
	}
	switch token := e.tokens[depth+1]; {
	case token == "0", token == "-":
		return []any{}, nil
	case isNumber(token):
		return nil, fmt.Errorf("%s is missing, so it has no element %s: add element 0 first", missing, token)
	default:
		return map[string]any{}, nil
	}
}

func isNumber(token string) bool {
	return token != "" && strings.Trim(token, "0123456789") == ""
}

// isAnnotation reports whether the path is /metadata/annotations/<name>. The annotations of an existing object are the
// member's, so an annotation may be gone already when the patch is applied again.
func (e edit) isAnnotation() bool {
	return len(e.tokens) == 3 && e.tokens[0] == "metadata" && e.tokens[1] == "annotations"
}

// pointer is the path of the first n tokens, as the user wrote them.
func (e edit) pointer(n int) string {
	if n == 0 {
		return "the object"
	}
	return "/" + strings.Join(strings.SplitN(e.Path[1:], "/", n+1)[:n], "/")
}
