package addons

import _ "embed"

// FakeNodeLabel is the label, with the value "true", of nodes that kwok plays.
const FakeNodeLabel = "hansa-lab/fake"

// KwokConfig is the configuration of the kwok that plays the fake nodes of a member without controllers, for a file
// that kwok is given by --config.
//
//go:embed kwok.yaml
var KwokConfig string
