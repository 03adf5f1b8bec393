package api

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeServices(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "services.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeServices(body)
	if err != nil {
		t.Fatal(err)
	}
	want := []Service{
		{
			ID: "0c8a61f4-1111-8000-8000-000000000001", Name: "orders eu", Provider: "aws", Region: "eu-west-2",
			PostgresVersion: "18", Size: "r6gd.medium", HAType: "none", State: "running", StorageGiB: 59,
			Tags:      []Tag{{"Environment", "production"}, {"no-value", ""}, {"null-value", ""}},
			IsPrimary: true,
			CreatedAt: time.Date(2026, 5, 25, 16, 42, 16, 0, time.UTC),
		},
		// Everything but the id left out, then null, then of another type than now.
		{ID: "0c8a61f4-1111-8000-8000-000000000002"},
		{ID: "0c8a61f4-1111-8000-8000-000000000003"},
		{
			ID: "4", Name: "42", PostgresVersion: "18", State: "hibernating", StorageGiB: 118.5, IsPrimary: true,
			CreatedAt: time.Date(2026, 3, 26, 20, 51, 16, 384e6, time.UTC),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeTime(t *testing.T) {
	at := time.Date(2026, 5, 25, 16, 42, 16, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`"2026-05-25T16:42:16+00:00"`:       at,
		`"2026-05-25T16:42:16Z"`:            at,
		`"2026-05-25T18:42:16+02:00"`:       at,
		`"2026-05-25T18:42:16+0200"`:        at,
		`"2026-05-25T18:42:16+02"`:          at,
		`"2026-05-25T11:12:16-05:30"`:       at,
		`"2026-05-25T16:42:16"`:             at,
		`"2026-05-25 16:42:16+00:00"`:       at,
		`"2026-05-25T16:42:16.384Z"`:        at.Add(384 * time.Millisecond),
		`"2026-05-25T16:42:16.384123+0000"`: at.Add(384123 * time.Microsecond),
		`null`:                              {},
		`""`:                                {},
		`"yesterday"`:                       {},
		`1779727336`:                        {},
		`{"seconds":1}`:                     {},
		`"2026-13-45T99:99:99Z"`:            {},
	} {
		list, err := decodeServices([]byte(`{"result":[{"id":"a","createdAt":` + text + `}]}`))
		if err != nil || !list[0].CreatedAt.Equal(want) || list[0].CreatedAt.IsZero() != want.IsZero() {
			t.Errorf("%s: got %v, error %v; want %s", text, list, err, want)
		}
	}
}

func TestDecodeStorageSize(t *testing.T) {
	for text, want := range map[string]float64{
		`59`: 59, `59.5`: 59.5, `"59"`: 59, `0`: 0, `-5`: 0, `1e308`: 0, `1e999`: 0, `null`: 0, `""`: 0, `"NaN"`: 0, `"Inf"`: 0,
	} {
		list, err := decodeServices([]byte(`{"result":[{"id":"a","storageSize":` + text + `}]}`))
		if err != nil || list[0].StorageGiB != want {
			t.Errorf("%s: got %v, error %v; want %v", text, list, err, want)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	services := func(b []byte) error { _, err := decodeServices(b); return err }
	organizations := func(b []byte) error { _, err := decodeOrganizations(b); return err }
	service := func(b []byte) error { _, err := decodeService(b, "a"); return err }
	config := func(b []byte) error { _, err := decodeServiceConfig(b); return err }
	backups := func(b []byte) error { _, err := decodeBackups(b); return err }
	key := func(b []byte) error { _, err := decodeKey(b); return err }
	quotas := func(b []byte) error { _, err := decodeQuotas(b); return err }
	for _, c := range []struct {
		name   string
		decode func([]byte) error
		body   string
		want   string // "" is no error
	}{
		{"empty list", services, `{"result":[]}`, ""},
		{"unknown fields", services, `{"new":{"a":[1]},"result":[{"id":"a","new":{}}],"status":"?"}`, ""},
		{"nothing", services, ``, "unexpected end of JSON input"},
		{"text", services, `ok`, "invalid character 'o' looking for beginning of value"},
		{"cut", services, `{"result":[{"id":"a"}`, "unexpected end of JSON input"},
		{"more than one value", services, `{"result":[]}{}`, "invalid character '{' after top-level value"},
		{"null", services, `null`, "result is missing"},
		{"list without envelope", services, `[{"id":"a"}]`, "a list instead of an object"},
		{"no result", services, `{"status":200}`, "result is missing"},
		{"null result", services, `{"result":null}`, "result is missing"},
		{"object for a list", services, `{"result":{"id":"a"}}`, "result is an object, not a list"},
		{"element without id", services, `{"result":[{"id":"a"},{"name":"b"}]}`, "element 1: id is missing"},
		{"element with empty id", services, `{"result":[{"id":""}]}`, "element 0: id is missing"},
		{"element null", services, `{"result":[null]}`, "element 0: id is missing"},
		{"element text", services, `{"result":[{"id":"a"},"b"]}`, "element 1: text instead of an object"},
		{"name an object", services, `{"result":[{"id":"a","name":{}}]}`, "element 0: name is an object, not text"},
		{"flag a text", services, `{"result":[{"id":"a","isPrimary":"perhaps"}]}`, "element 0: isPrimary is text, not a boolean"},
		{"flag a number", services, `{"result":[{"id":"a","isPrimary":1}]}`, "element 0: isPrimary is a number, not a boolean"},
		{"flag a list", services, `{"result":[{"id":"a","isPrimary":[]}]}`, "element 0: isPrimary is a list, not text"},
		{"size a boolean", services, `{"result":[{"id":"a","storageSize":true}]}`, "element 0: storageSize is a boolean, not a number"},
		{"size an object", services, `{"result":[{"id":"a","storageSize":{}}]}`, "element 0: storageSize is an object, not text"},
		{"tags an object", services, `{"result":[{"id":"a","tags":{"k":"v"}}]}`, "element 0: tags is an object, not a list"},
		{"tag an object", services, `{"result":[{"id":"a","tags":[{"key":{}}]}]}`, "element 0: tag: key is an object, not text"},
		{"organization without id", organizations, `{"result":[{"name":"a"}]}`, "element 0: id is missing"},
		{"organization null", organizations, `{"result":null}`, "result is missing"},
		{"service", service, `{"result":{"id":"A"}}`, ""},
		{"service without id", service, `{"result":{}}`, "id is missing"},
		{"another service", service, `{"result":{"id":"b"}}`, "response is about another service"},
		{"service null", service, `{"result":null}`, "result is missing"},
		{"service a list", service, `{"result":[]}`, "a list instead of an object"},
		{"config null", config, `{"result":null}`, "result is missing"},
		{"config a list", config, `{"result":{"pgConfig":[]}}`, "pgConfig is a list, not an object"},
		{"config nothing set", config, `{"result":{}}`, ""},
		{"key", key, `{"result":{"actorType":"apiKey","keyId":"k","name":"n","organizationId":"o"}}`, ""},
		{"key of a user", key, `{"result":{"actorType":"user","userId":"u","email":"e"}}`, `actorType "user" is not an API key`},
		{"backups null", backups, `{"result":null}`, "result is missing"},
		{"backup without time", backups, `{"result":[{"key":"a"}]}`, "element 0: lastModified is not a time"},
		{"quota without code", quotas, `{"result":[{"value":1}]}`, "element 0: quotaCode is missing"},
		{"quota without limit", quotas, `{"result":[{"quotaCode":"a"}]}`, `element 0: value of "a" is missing`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.decode([]byte(c.body)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("error is\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestDecodeServiceConfig(t *testing.T) {
	got, err := decodeServiceConfig([]byte(`{"result":{
		"pgConfig":{"max_connections":500,"work_mem":"4MB","jit":false,"random_page_cost":1.10,"unset":null},
		"pgBouncerConfig":{"default_pool_size":"16"}}}`))
	want := ServiceConfig{
		Postgres:  map[string]string{"max_connections": "500", "work_mem": "4MB", "jit": "false", "random_page_cost": "1.10"},
		PgBouncer: map[string]string{"default_pool_size": "16"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestDecodeBackups(t *testing.T) {
	latest := time.Date(2026, 11, 25, 2, 14, 9, 0, time.UTC)
	two, none := 2, 0
	const list = `"result":[{"key":"a","lastModified":"2026-11-25T02:14:09Z"},{"key":"b","lastModified":"2026-11-24T02:13:40Z"}]`
	for body, want := range map[string]Backups{
		`{"totalCount":2,` + list + `}`:      {Latest: latest, Total: &two},
		`{"totalCount":null,` + list + `}`:   {Latest: latest},
		`{"totalCount":-1,` + list + `}`:     {Latest: latest},
		`{"totalCount":"many",` + list + `}`: {Latest: latest},
		`{` + list + `}`:                     {Latest: latest},
		`{"totalCount":0,"result":[]}`:       {Total: &none},
		`{"result":[]}`:                      {},
	} {
		got, err := decodeBackups([]byte(body))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(body, err, diff)
		}
	}
}

func TestDecodeQuotas(t *testing.T) {
	got, err := decodeQuotas([]byte(`{"result":[
		{"quotaCode":"postgres-services-per-organization","name":"n","scope":"organization","value":20,"usage":23,"adjustable":true},
		{"quotaCode":"replicas-per-warehouse","value":0},
		{"quotaCode":"new","value":1e12,"usage":null}]}`))
	usage := 23.0
	want := []Quota{{"postgres-services-per-organization", 20, &usage}, {"replicas-per-warehouse", 0, nil}, {"new", 1e12, nil}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// What upstream once sent with GET by id has nowhere to go.
func TestSecretsOfServicesAreNotDecoded(t *testing.T) {
	detail, err := decodeService([]byte(`{"result":{"id":"a","hostname":"a.example","username":"postgres",
		"password":"`+"s3cr3t"+`","connectionString":"postgres://postgres:s3cr3t@a.example/postgres"}}`), "a")
	if err != nil || detail.Hostname != "a.example" {
		t.Errorf("got %+v, error %v", detail, err)
	}
	checkNoSecret(t, detail)
}

func FuzzDecodeServices(f *testing.F) {
	seed, err := os.ReadFile(filepath.Join("testdata", "services.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	for _, s := range []string{
		``, `null`, `{}`, `[]`, `{"result":[]}`, `{"result":[{"id":"a","tags":[null,{}]}]}`, `{"result":[{"id":1,"storageSize":"1e5"}]}`,
		`{"result":[{"id":"\ud800","name":"\u0000"}]}`, `{"result":[{"id":"a","ID":"b"}]}`, strings.Repeat("[", 1000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		services, err := decodeServices(body)
		if err != nil {
			if services != nil {
				t.Error("part of a list beside an error")
			}
			if !json.Valid(body) {
				return
			}
			return
		}
		if !json.Valid(body) {
			t.Error("invalid JSON accepted")
		}
		for _, s := range services {
			if s.ID == "" {
				t.Error("service without id")
			}
			if !(s.StorageGiB >= 0 && s.StorageGiB <= maxStorage) {
				t.Errorf("storage of %v GiB", s.StorageGiB)
			}
			for _, tag := range s.Tags {
				if tag.Key == "" {
					t.Error("tag without key")
				}
			}
		}
	})
}
