package simulator

import (
	_ "embed"
	"slices"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the OpenAPI 3.1 description, in YAML, of what the simulator serves.
func OpenAPI() []byte { return slices.Clone(openAPI) }
