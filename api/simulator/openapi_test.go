package simulator_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// ownDescription is the package's own description.
var ownDescription = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromData(simulator.OpenAPI())
})

// officialDescription is an extract of the vendor's, nil if there is none. It is not part of this
// repository: OPENAPI_UPSTREAM names the file, or it is beside the checkout.
var officialDescription = sync.OnceValues(func() (*openapi3.T, error) {
	path := os.Getenv("OPENAPI_UPSTREAM")
	if path == "" {
		path = filepath.Join("..", "..", "..", "shared", "upstream", "openapi-managed-postgres.json")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		return nil, err
	}
	// It asks for at least one parameter, while the guide shows an answer without any.
	for _, name := range []string{"pgConfig", "pgBouncerConfig"} {
		doc.Components.Schemas[name].Value.MinProps = 0
	}
	// And it is older than the second provider.
	own, err := ownDescription()
	if err != nil {
		return nil, err
	}
	for theirs, ours := range map[string]string{"pgProvider": "Provider", "pgSize": "Size"} {
		schema, newer := doc.Components.Schemas[theirs].Value, own.Components.Schemas[ours].Value.Enum
		schema.Enum = append(schema.Enum, slices.DeleteFunc(slices.Clone(newer), func(v any) bool {
			return v != "gcp" && !strings.HasPrefix(v.(string), "c4") && !strings.HasPrefix(v.(string), "z3-")
		})...)
	}
	return doc, nil
})

// formats are those in the descriptions that the validator ignores by default.
var formats = []openapi3.SchemaValidationOption{
	openapi3.WithStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)),
	openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(v string) error {
		_, err := time.Parse(time.RFC3339, v)
		return err
	})),
}

// conforms checks an answer against both descriptions.
func conforms(t *testing.T, req *http.Request, r reply) {
	t.Helper()
	own, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	official, err := officialDescription()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(own, req, r, true); err != nil {
		t.Errorf("%s %s: answer %d does not conform to openapi.yaml: %v\n%.2000s", req.Method, req.URL.Path, r.status, err, r.body)
	}
	if official == nil {
		return
	}
	if err := validate(official, req, r, false); err != nil {
		t.Errorf("%s %s: answer %d does not conform to the official description: %v\n%.2000s", req.Method, req.URL.Path, r.status, err, r.body)
	}
}

// validate checks an answer against one description. If the description is strict, a path or a
// method that it does not have must have been refused with an error.
func validate(doc *openapi3.T, req *http.Request, r reply, strict bool) error {
	path, item := find(doc, req.URL.Path)
	var operation *openapi3.Operation
	if item != nil {
		operation = item.GetOperation(req.Method)
	}
	if operation == nil {
		if !strict {
			return nil // it is older than some of what is served
		}
		if r.status != http.StatusNotFound && r.status != http.StatusMethodNotAllowed && r.status != http.StatusUnauthorized && r.status != http.StatusTooManyRequests {
			return errors.New("no such operation, and it was not refused")
		}
		// An error has the same form everywhere.
		path, item = find(doc, "/v1/organizations")
		operation = item.Get
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: req.Method, Operation: operation},
		},
		Status:  r.status,
		Header:  r.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: strict, SchemaValidationOptions: formats},
	}
	input.SetBodyBytes(r.body)
	return openapi3filter.ValidateResponse(req.Context(), input)
}

// find returns the path item that describes a path; a literal segment wins over a parameter.
func find(doc *openapi3.T, path string) (pattern string, item *openapi3.PathItem) {
	segments := strings.Split(path, "/")
	var literals int
	for candidate, i := range doc.Paths.Map() {
		var n int
		if slices.EqualFunc(strings.Split(candidate, "/"), segments, func(p, segment string) bool {
			if strings.HasPrefix(p, "{") {
				return segment != ""
			}
			n++
			return p == segment
		}) && (item == nil || n > literals) {
			pattern, item, literals = candidate, i, n
		}
	}
	return pattern, item
}

// All operations that are served are described, and the other way round.
func TestOpenAPIIsComplete(t *testing.T) {
	doc, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	served := simulator.Routes()
	for _, route := range served {
		method, path, _ := strings.Cut(route, " ")
		if _, item := find(doc, path); item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s is not described", route)
		}
	}
	var described int
	for _, item := range doc.Paths.Map() {
		described += len(item.Operations())
	}
	if described != len(served) {
		t.Errorf("%d operations are described, and %d served", described, len(served))
	}
}

func TestOpenAPIIsValid(t *testing.T) {
	doc, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
}

// The validator finds mistakes.
func TestOpenAPIValidatorRefuses(t *testing.T) {
	doc, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/organizations", nil)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	for name, r := range map[string]reply{
		"unknown field": {200, header, []byte(`{"result":[],"requestId":"60c4a1e2-7f6e-4d5e-9df2-4f6e9a3f7f10","status":200,"more":1}`)},
		"wrong type":    {200, header, []byte(`{"result":{},"requestId":"60c4a1e2-7f6e-4d5e-9df2-4f6e9a3f7f10","status":200}`)},
		"no UUID":       {200, header, []byte(`{"result":[],"requestId":"7","status":200}`)},
		"no date":       {200, header, []byte(`{"result":[{"id":"60c4a1e2-7f6e-4d5e-9df2-4f6e9a3f7f10","name":"","createdAt":"today","privateEndpoints":[],"byocConfig":[]}],"requestId":"60c4a1e2-7f6e-4d5e-9df2-4f6e9a3f7f10","status":200}`)},
		"no envelope":   {401, header, []byte(`{}`)},
		"wrong media":   {200, http.Header{"Content-Type": {"text/html"}}, []byte(`<p>`)},
	} {
		if err := validate(doc, req, r, true); err == nil {
			t.Errorf("%s: conforms", name)
		}
	}
	good := reply{200, header, []byte(`{"result":[],"requestId":"60c4a1e2-7f6e-4d5e-9df2-4f6e9a3f7f10","status":200}`)}
	if err := validate(doc, req, good, true); err != nil {
		t.Errorf("good answer: %v", err)
	}
}

// The simulator's description has the same enumerations as the vendor's.
func TestOfficialDescription(t *testing.T) {
	official, err := officialDescription()
	if err != nil {
		t.Fatal(err)
	}
	if official == nil {
		t.Skip("no official description here: set OPENAPI_UPSTREAM to its file")
	}
	own, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range official.Paths.Map() {
		_, ours := find(own, path)
		if ours == nil {
			t.Errorf("%s is missing", path)
			continue
		}
		for method := range item.Operations() {
			if ours.GetOperation(method) == nil {
				t.Errorf("%s %s is missing", method, path)
			}
		}
	}
	for theirs, ours := range map[string]string{"pgSize": "Size", "pgHaType": "HAType", "pgVersion": "Version", "pgProvider": "Provider"} {
		a, b := official.Components.Schemas[theirs].Value.Enum, own.Components.Schemas[ours].Value.Enum
		if missing, extra := without(a, b), without(b, a); len(missing)+len(extra) > 0 {
			t.Errorf("%s: missing %v, extra %v", ours, missing, extra)
		}
	}
	for name := range official.Components.Schemas["pgConfig"].Value.Properties {
		if !simulator.IsSetting(name) {
			t.Errorf("parameter %s is missing", name)
		}
	}
}

func without(all, these []any) []any {
	return slices.DeleteFunc(slices.Clone(all), func(v any) bool { return slices.Contains(these, v) })
}
