package overrides

import (
	"bytes"
	"crypto/md5" //nolint:gosec // KubeFed's hash, stored in PropagatedVersion objects; nothing is protected by it
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/hansa-dev/hansa/federation/api"
)

// noOverrides is the version of a spec without overrides: the hash of `{"overrides":null}` and a newline.
const noOverrides = "2979b7538b527abe06492021841caf47"

// item is an entry of spec.overrides in the order and with the omissions that KubeFed hashes.
type item struct {
	ClusterName      string  `json:"clusterName"`
	ClusterOverrides []Patch `json:"clusterOverrides,omitempty"`
}

// Version returns the hash of spec.overrides that KubeFed stores in a PropagatedVersion: hexadecimal MD5 of
// {"overrides": ...} as encoding/json's Encoder writes it. It is empty when the object has no spec.
func Version(object map[string]any) (string, error) {
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		if object["spec"] == nil {
			return "", nil
		}
		return "", fmt.Errorf("hashing spec.overrides: spec has to be an object, but is %s", api.KindOfJSON(object["spec"]))
	}
	if spec["overrides"] == nil {
		return noOverrides, nil
	}
	// The way through JSON is KubeFed's, and it shows in the hash: numbers become float64.
	raw, err := json.Marshal(spec["overrides"])
	if err != nil {
		return "", fmt.Errorf("hashing spec.overrides: %w", err)
	}
	var items []item
	if err := json.Unmarshal(raw, &items); err != nil {
		return "", fmt.Errorf("hashing spec.overrides: %w", err)
	}
	var buffer bytes.Buffer
	if err := json.NewEncoder(&buffer).Encode(map[string]any{"overrides": items}); err != nil {
		return "", fmt.Errorf("hashing spec.overrides: %w", err)
	}
	sum := md5.Sum(buffer.Bytes()) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:]), nil
}
