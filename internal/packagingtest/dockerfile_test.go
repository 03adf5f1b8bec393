package packagingtest

import (
	"regexp"
	"strings"
	"testing"
)

// TestDockerfile checks what the slow test, which builds and runs the image,
// cannot see or may not be able to run.
func TestDockerfile(t *testing.T) {
	dockerfile := string(read(t, inRoot("Dockerfile")))
	stages := regexp.MustCompile(`(?m)^FROM .*$`).FindAllString(dockerfile, -1)
	if len(stages) != 2 || stages[1] != "FROM scratch" {
		t.Fatalf("stages %q, want one to build and one that begins with nothing", stages)
	}
	if !regexp.MustCompile(`^FROM --platform=\$BUILDPLATFORM golang:\d+\.\d+\.\d+-\w+ AS build$`).MatchString(stages[0]) {
		t.Errorf("%s: want a pinned compiler that runs on the builder's platform", stages[0])
	}
	version := regexp.MustCompile(`golang:(\d+\.\d+)\.`).FindStringSubmatch(stages[0])
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(read(t, inRoot("go.mod"))))
	if version == nil || module == nil || version[1] != module[1] {
		t.Errorf("the image is built with Go %v, the module says %v", version, module)
	}
	for _, want := range []string{
		"CGO_ENABLED=0", "-trimpath", `GOOS="$TARGETOS" GOARCH="$TARGETARCH" GOARM="${TARGETVARIANT#v}"`, "SOURCE_DATE_EPOCH",
		"\nUSER 65532:65532\n", "\nEXPOSE 9924\n", `CMD ["/bin/clickhouse_postgres_exporter", "healthcheck"]`,
		`ENTRYPOINT ["/bin/clickhouse_postgres_exporter"]`, "ca-certificates.crt", "zoneinfo.zip",
		`org.opencontainers.image.source="https://github.com/ClickHouse/clickhouse_postgres_exporter"`,
		`org.opencontainers.image.licenses="Apache-2.0"`,
	} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile lacks %s", want)
		}
	}
}

// TestDockerignoreIsAnAllowList checks that nothing gets into an image's
// context because nobody thought of leaving it out.
func TestDockerignoreIsAnAllowList(t *testing.T) {
	for line := range strings.Lines(string(read(t, inRoot(".dockerignore")))) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line != "*" {
			t.Errorf("the first pattern is %s, want *", line)
		}
		return
	}
	t.Error("no pattern")
}
