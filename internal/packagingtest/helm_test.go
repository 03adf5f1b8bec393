package packagingtest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringalpha "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

var chart = inRoot("deploy/helm/clickhouse-postgres-exporter")

// values are what users may install the chart with, by the name of its golden
// file in testdata/helm.
var values = map[string]string{
	"default": ``,
	"demo": `
demo: {enabled: true, services: 40}
networkPolicy: {enabled: true}
`,
	"environment": `
fullnameOverride: exporter
organizationId: 11111111-2222-3333-4444-555555555555
credentials: {existingSecret: mine, keyIdKey: id, keySecretKey: secret, method: env}
image: {digest: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
resources: {limits: {memory: 2Gi}}
serviceAccount: {create: false}
podMonitor: {enabled: true, metricRelabelings: [{sourceLabels: [__name__], regex: go_.+, action: drop}]}
`,
	"replicas-tls": `
replicaCount: 2
web: {port: 9443, existingSecret: exporter-web, tls: true}
service: {port: 443}
serviceMonitor:
  enabled: true
  namespace: monitoring
  labels: {release: prometheus}
  tlsConfig: {ca: {secret: {name: exporter-web, key: ca.crt}}, serverName: exporter}
  basicAuth: {username: {name: scrape, key: user}, password: {name: scrape, key: password}}
prometheusRule:
  enabled: true
  labels: {release: prometheus}
dashboards: {enabled: true, namespace: grafana}
networkPolicy:
  enabled: true
  from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  extraEgress: [{ports: [{port: 3128, protocol: TCP}]}]
`,
	"shards": `
shardCount: 4
flags:
  metrics.interval: 60s
  api.rate-limit: 1000000
  web.disable-exporter-metrics: true
  web.prefer-openmetrics: false
  enrich.labels: region,size,tag:team
extraArgs: [--log.format=json]
serviceMonitor: {enabled: true}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
`,
	"config": `
config:
  metric_relabel_configs:
    - source_labels: [postgres_service_name]
      regex: test-.*
      action: drop
credentials: {existingSecret: ""}
extraVolumes: [{name: keys, secret: {secretName: organizations}}]
extraVolumeMounts: [{name: keys, mountPath: /etc/exporter/keys, readOnly: true}]
extraArgs: [--api.key-id-file=/etc/exporter/keys/id, --api.key-secret-file=/etc/exporter/keys/secret]
scrapeConfig: {enabled: true, labels: {release: prometheus}}
commonLabels: {team: database}
podAnnotations: {example.com/a: b}
`,
}

// install renders the chart as "helm template" does.
func install(t *testing.T, text string) (*release.Release, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	install := action.NewInstall(&action.Configuration{
		Log: t.Logf,
	})
	install.ReleaseName = "test"
	install.Namespace = "postgres-metrics"
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.27.0", Major: "1", Minor: "27"}
	install.DryRun, install.ClientOnly, install.Replace = true, true, true
	return install.Run(c, v)
}

func template(t *testing.T, text string) []byte {
	t.Helper()
	r, err := install(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(r.Manifest)
}

func TestHelmTemplate(t *testing.T) {
	for name, text := range values {
		t.Run(name, func(t *testing.T) {
			r, err := install(t, text)
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, []byte(r.Manifest))
			checkObjects(t, objects)
			for _, rule := range every[*monitoring.PrometheusRule](objects) {
				checkRules(t, rule)
			}
			if strings.Contains(text, "dashboards:") {
				checkDashboards(t, every[*core.ConfigMap](objects))
			}
			golden := fmt.Sprintf("%s---\n# NOTES.txt\n%s", elide(t, []byte(r.Manifest)), comment(r.Info.Notes))
			same(t, filepath.Join("testdata", "helm", name+".yaml"), []byte(golden))
		})
	}
}

func comment(text string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		out.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	return out.String()
}

func TestHelmLint(t *testing.T) {
	for name, text := range values {
		t.Run(name, func(t *testing.T) {
			var v map[string]any
			if err := yaml.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			lint := action.NewLint()
			lint.Strict, lint.Namespace = true, "postgres-metrics"
			result := lint.Run([]string{chart}, v)
			for _, err := range result.Errors {
				t.Error(err)
			}
			for _, m := range result.Messages {
				// An icon is for the catalogues of charts.
				if !strings.Contains(m.Err.Error(), "icon is recommended") {
					t.Error(m)
				}
			}
		})
	}
}

// TestHelmRefuses has what the schema or a template must refuse, with a part of
// what it must say.
func TestHelmRefuses(t *testing.T) {
	for _, test := range []struct{ name, values, want string }{
		{"unknown value", `replicas: 2`, "'replicas'"},
		{"unknown nested value", `web: {ports: 1}`, "'ports'"},
		{"secret as a value", `credentials: {keySecret: s3cret}`, "'keySecret'"},
		{"wrong type", `replicaCount: "2"`, "/replicaCount"},
		{"no pods", `replicaCount: 0`, "/replicaCount"},
		{"method", `credentials: {method: vault}`, "/credentials/method"},
		{"digest", `image: {digest: latest}`, "/image/digest"},
		{"privileged port", `web: {port: 443}`, "/web/port"},
		{"duration", `serviceMonitor: {interval: 30}`, "/serviceMonitor/interval"},
		{"a flag that the chart sets", `flags: {web.listen-address: ":1"}`, "web.listen-address"},
		{"a flag with dashes", `flags: {--log.level: debug}`, "--log.level"},
		{"replicas of shards", `{replicaCount: 2, shardCount: 2}`, "cannot both be more than 1"},
		{"two scrapes of the same", `{podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}`, "only one of serviceMonitor"},
		{"discovery of one of two replicas", `{replicaCount: 2, scrapeConfig: {enabled: true}}`, "scrapeConfig asks one exporter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := install(t, test.values)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to say %q", err, test.want)
			}
		})
	}
}

// TestHelmSchemaKnowsValues fails when a value has no schema, or a schema no
// value, or a value no comment or template that uses it.
func TestHelmSchemaKnowsValues(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Properties map[string]any
		}
	}
	if err := yaml.Unmarshal(read(t, filepath.Join(chart, "values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(chart, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	var templates strings.Builder
	for _, path := range glob(t, "deploy/helm/clickhouse-postgres-exporter/templates/*") {
		templates.Write(read(t, path))
	}
	for name, value := range defaults {
		p, ok := schema.Properties[name]
		if !ok {
			t.Errorf("value %s has no schema", name)
		}
		if !regexp.MustCompile(`\.Values\.` + name + `\b`).MatchString(templates.String()) {
			t.Errorf("value %s is used by no template", name)
		}
		nested, _ := value.(map[string]any)
		for key := range p.Properties {
			if _, ok := nested[key]; !ok && !strings.HasSuffix(name, "Probe") && name != "resources" {
				t.Errorf("the schema knows %s.%s, which values.yaml does not", name, key)
			}
		}
	}
	for name := range schema.Properties {
		if _, ok := defaults[name]; !ok && name != "global" {
			t.Errorf("the schema knows %s, which values.yaml does not", name)
		}
	}
}

func TestHelmReplicas(t *testing.T) {
	objects := decode(t, template(t, values["replicas-tls"]))
	w := workloads(objects)[0]
	args := w.exporters()[0].Args
	if w.replicas != 2 || !slices.Contains(args, "--api.replicas=2") {
		t.Errorf("%d replicas with %q", w.replicas, args)
	}
	if b := one[*policy.PodDisruptionBudget](t, objects); b.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("disruption budget %v", b.Spec)
	}
	m := one[*monitoring.ServiceMonitor](t, objects)
	if m.Spec.Endpoints[0].Scheme == nil || *m.Spec.Endpoints[0].Scheme != "https" {
		t.Errorf("service monitor scrapes by %v, want https", m.Spec.Endpoints[0].Scheme)
	}
}

func TestHelmSinglePodHasNoDisruptionBudget(t *testing.T) {
	if b := every[*policy.PodDisruptionBudget](decode(t, template(t, ""))); len(b) != 0 {
		t.Errorf("%v guards a single pod", b)
	}
}

func TestHelmDemoNeedsNothing(t *testing.T) {
	objects := decode(t, template(t, values["demo"]))
	for _, c := range workloads(objects)[0].exporters() {
		if len(c.VolumeMounts) != 0 {
			t.Errorf("the demo mounts %v", c.VolumeMounts)
		}
	}
	if p := one[*networking.NetworkPolicy](t, objects); len(p.Spec.Egress) != 0 {
		t.Errorf("the demo may talk to %v", p.Spec.Egress)
	}
}

func TestHelmConfigRestartsPods(t *testing.T) {
	checksum := func(v string) string {
		return workloads(decode(t, template(t, v)))[0].template.Annotations["checksum/config"]
	}
	a, b := checksum(`config: {metric_relabel_configs: []}`), checksum(`config: {metric_relabel_configs: [{regex: x, action: labeldrop}]}`)
	if a == "" || a == b {
		t.Errorf("checksums %q and %q of different configurations", a, b)
	}
	if none := checksum(``); none != "" {
		t.Errorf("checksum %q without a configuration", none)
	}
}

func TestHelmMemoryLimit(t *testing.T) {
	for limit, want := range map[string]string{"128Mi": "115MiB", "1Gi": "921MiB", "100M": ""} {
		c := workloads(decode(t, template(t, "resources: {limits: {memory: "+limit+"}}")))[0].exporters()[0]
		got := ""
		for _, e := range c.Env {
			if e.Name == "GOMEMLIMIT" {
				got = e.Value
			}
		}
		if got != want {
			t.Errorf("GOMEMLIMIT is %q of a limit of %s, want %q", got, limit, want)
		}
	}
}

func TestHelmScrapeConfig(t *testing.T) {
	all := every[*monitoringalpha.ScrapeConfig](decode(t, template(t, values["config"])))
	if len(all) != 2 {
		t.Fatalf("%d scrape configs, want one of the services and one of the exporter", len(all))
	}
	if u := all[0].Spec.HTTPSDConfigs; len(u) != 1 || u[0].URL != "http://test-clickhouse-postgres-exporter.postgres-metrics.svc:9924/sd" {
		t.Errorf("service discovery at %v", u)
	}
}

// TestHelmPackage checks that the links in the chart become files in its
// archive, which is what most users install.
func TestHelmPackage(t *testing.T) {
	pkg := action.NewPackage()
	pkg.Destination = t.TempDir()
	archive, err := pkg.Run(chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := loader.LoadArchive(io.Reader(f))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"deploy/prometheus/rules/*.yml", "deploy/grafana/dashboards/*.json"} {
		for _, path := range glob(t, pattern) {
			name := "files/" + filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
			found := false
			for _, file := range c.Files {
				found = found || file.Name == name && string(file.Data) == string(read(t, path))
			}
			if !found {
				t.Errorf("the archive lacks %s as it is in %s", name, path)
			}
		}
	}
}
