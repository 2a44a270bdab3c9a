package wire

import "github.com/hansa-dev/hansa/federation/clusterset"

// Content returns what a shard packs.
func Content(data []byte) []byte {
	content, err := unpack(data)
	if err != nil {
		panic(err)
	}
	return content
}

// DecodeContent reads content without the wrapping, which fuzzing could never guess.
func DecodeContent(content []byte, version byte) (clusterset.Known, error) {
	return decode(content, version)
}
