package overrides_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/hansa-dev/hansa/overrides"
)

// TestAgainstJSONPatch compares with an independent implementation of RFC 6902 on random objects and patches: what it
// can do has the same result here, and what it refuses is refused here, but for the two relaxations of the package.
func TestAgainstJSONPatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	applied := 0
	for range 20000 {
		target := randomObject(rng, 4)
		patch := overrides.Patch{
			Op:    []string{"", overrides.Add, overrides.Remove, overrides.Replace}[rng.IntN(4)],
			Path:  randomPath(rng),
			Value: randomValue(rng, 2),
		}
		want, refused := reference(t, target, patch)
		got, err := overrides.Overrides{"m1": {patch}}.Apply("m1", target)
		relaxed := patch.Op == overrides.Add && madeParent(target, patch.Path)
		switch {
		case refused != nil && err == nil && !relaxed:
			t.Fatalf("%s %s on %v: json-patch says %v, here it is %v", patch.Op, patch.Path, target, refused, got)
		case refused == nil && err != nil:
			t.Fatalf("%s %s on %v: json-patch has %v, here it is refused: %v", patch.Op, patch.Path, target, want, err)
		case refused == nil && !reflect.DeepEqual(want, got):
			t.Fatalf("%s %s on %v: json-patch has %v, here it is %v", patch.Op, patch.Path, target, want, got)
		case refused == nil:
			applied++
		}
	}
	if applied < 1000 {
		t.Errorf("only %d patches applied: the comparison says little", applied)
	}
}

func reference(t *testing.T, target map[string]any, patch overrides.Patch) (map[string]any, error) {
	t.Helper()
	op := patch.Op
	if op == "" {
		op = overrides.Replace
	}
	rawPatch, err := json.Marshal([]map[string]any{{"op": op, "path": patch.Path, "value": patch.Value}})
	if err != nil {
		t.Fatal(err)
	}
	rawTarget, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(rawPatch)
	if err != nil {
		return nil, err
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false
	result, err := decoded.ApplyWithOptions(rawTarget, options)
	if err != nil {
		return nil, err
	}
	var content map[string]any
	return content, utiljson.Unmarshal(result, &content)
}

// madeParent reports whether all but the last two segments of the path exist and the one before the last does not.
func madeParent(target map[string]any, path string) bool {
	segments := strings.Split(path[1:], "/")
	var node any = target
	for i, segment := range segments[:len(segments)-1] {
		switch container := node.(type) {
		case map[string]any:
			if container[segment] == nil {
				return i == len(segments)-2
			}
			node = container[segment]
		case []any:
			var index int
			if _, err := fmt.Sscan(segment, &index); err != nil || index >= len(container) {
				return false
			}
			node = container[index]
		}
	}
	return false
}

var keys = []string{"a", "b", "c", "0", "1"}

func randomPath(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(4) {
		b.WriteByte('/')
		b.WriteString(append(keys, "-", "2")[rng.IntN(len(keys)+2)])
	}
	return b.String()
}

func randomObject(rng *rand.Rand, depth int) map[string]any {
	object := map[string]any{}
	for range rng.IntN(4) {
		object[keys[rng.IntN(len(keys))]] = randomValue(rng, depth-1)
	}
	return object
}

func randomValue(rng *rand.Rand, depth int) any {
	kinds := 6
	if depth <= 0 {
		kinds = 4
	}
	switch rng.IntN(kinds) {
	case 0:
		return "text"
	case 1:
		return int64(rng.IntN(10))
	case 2:
		return rng.IntN(2) == 0
	case 3:
		return 0.5
	case 4:
		return randomObject(rng, depth)
	default:
		list := make([]any, rng.IntN(3))
		for i := range list {
			list[i] = randomValue(rng, depth-1)
		}
		return list
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"spec":{"overrides":[{"clusterName":"m1","clusterOverrides":[{"op":"add","path":"/a~1b","value":{"c":[1]}}]}]}}`))
	f.Add([]byte(`{"spec":{"overrides":[{"clusterName":"m1","clusterOverrides":[{"path":"/metadata/name"}]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var content map[string]any
		if utiljson.Unmarshal(data, &content) != nil {
			return
		}
		before := runtime.DeepCopyJSON(content)
		parsed, err := overrides.Parse(content)
		_, versionErr := overrides.Version(content)
		if !reflect.DeepEqual(before, content) {
			t.Fatalf("%v was changed into %v", before, content)
		}
		if err != nil {
			return
		}
		if versionErr != nil {
			t.Fatalf("%v parses and has no version: %v", content, versionErr)
		}
		for cluster := range parsed {
			target := map[string]any{"metadata": map[string]any{"name": "a"}, "spec": map[string]any{"list": []any{int64(1)}}}
			if result, err := parsed.Apply(cluster, target); err == nil && field(result, "metadata", "name") != "a" && result["metadata"] != nil {
				// The whole of metadata may be overridden; its name on its own may not.
				if !parsed.Touches(cluster, "metadata") {
					t.Fatalf("the name was changed: %v", result)
				}
			}
		}
	})
}

func field(object map[string]any, keys ...string) any {
	var value any = object
	for _, key := range keys {
		content, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = content[key]
	}
	return value
}

func FuzzApply(f *testing.F) {
	f.Add("add", "/spec/args/0", []byte(`"-q"`), []byte(`{"spec":{"args":["-v"]}}`))
	f.Add("remove", "/metadata/annotations/a~1b", []byte(`null`), []byte(`{"metadata":{"annotations":{"a/b":"c"}}}`))
	f.Add("", "/a/-", []byte(`{"b":[1]}`), []byte(`{"a":[{},null,[1]]}`))
	f.Fuzz(func(t *testing.T, op, path string, value, object []byte) {
		var patch overrides.Patch
		var target map[string]any
		if utiljson.Unmarshal(value, &patch.Value) != nil || utiljson.Unmarshal(object, &target) != nil || target == nil {
			return
		}
		patch.Op, patch.Path = op, path
		patches := overrides.Overrides{"m1": {patch}}
		before, value0 := runtime.DeepCopyJSON(target), runtime.DeepCopyJSONValue(patch.Value)
		first, firstErr := patches.Apply("m1", target)
		second, secondErr := patches.Apply("m1", target)
		if !reflect.DeepEqual(before, target) || !reflect.DeepEqual(value0, patch.Value) {
			t.Fatalf("the inputs were changed: %v, %v", target, patch.Value)
		}
		if !reflect.DeepEqual(first, second) || fmt.Sprint(firstErr) != fmt.Sprint(secondErr) {
			t.Fatalf("twice is not the same: %v %v, %v %v", first, firstErr, second, secondErr)
		}
		if (first == nil) != (firstErr != nil) {
			t.Fatalf("a result is there if and only if there is no error: %v, %v", first, firstErr)
		}
	})
}
