package packagingtest

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
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
scrapeConfig: {enabled: true, labels: {release: prometheus}, sampleLimit: 1000000, trackTimestampsStaleness: true}
commonLabels: {team: database}
podAnnotations: {example.com/a: b}
`,
	"discovered-shards": `
shardCount: 2
web: {port: 9443, existingSecret: exporter-web, tls: true}
service: {port: 443}
flags: {web.telemetry-path: /all}
scrapeConfig:
  enabled: true
  tlsConfig: {ca: {secret: {name: exporter-web, key: ca.crt}}, serverName: exporter}
  basicAuth: {username: {name: scrape, key: user}, password: {name: scrape, key: password}}
`,
	// Everything that is passed on as it is.
	"everything": `
namespaceOverride: elsewhere
commonAnnotations: {example.com/owner: database}
deploymentAnnotations: {example.com/change: "17"}
podLabels: {team: postgres}
commonLabels: {team: database, app.kubernetes.io/version: mine}
service: {labels: {team: network}, annotations: {example.com/owner: network}}
extraEnvFrom: [{configMapRef: {name: proxy}}]
lifecycle: {preStop: {sleep: {seconds: 5}}}
updateStrategy: {type: Recreate}
minReadySeconds: 30
dnsPolicy: None
dnsConfig: {nameservers: [192.0.2.53]}
hostAliases: [{ip: 192.0.2.1, hostnames: [api.clickhouse.cloud]}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
priorityClassName: system-cluster-critical
imagePullSecrets: [{name: registry}]
livenessProbe: {terminationGracePeriodSeconds: 10}
initContainers:
  - {name: wait, image: "busybox:1.37.0", resources: &r {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 9Mi}},
     securityContext: &s {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}}
extraContainers:
  - {name: proxy, image: "proxy:1.2.3", resources: *r, securityContext: *s}
extraObjects:
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: '{{ include "exporter.fullname" . }}-more', namespace: '{{ include "exporter.namespace" . }}'}
    data: {a: "1"}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: text
      namespace: {{ include "exporter.namespace" . }}
serviceMonitor:
  enabled: true
  jobLabel: app.kubernetes.io/name
  targetLabels: [team]
  podTargetLabels: [team]
  attachMetadata: {node: true}
  sampleLimit: 1000000
  targetLimit: 1
  labelLimit: 50
  labelNameLengthLimit: 100
  labelValueLengthLimit: 1000
  trackTimestampsStaleness: true
prometheusRule:
  enabled: true
  disabled: [ClickHousePostgresDeadlocks]
`,
}

// install renders the chart with values from a file, as "helm template" does.
func install(t *testing.T, text string) (*release.Release, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return installValues(t, v)
}

func installValues(t *testing.T, v map[string]any) (*release.Release, error) {
	t.Helper()
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
			if !strings.Contains(text, "disabled:") {
				for _, rule := range every[*monitoring.PrometheusRule](objects) {
					checkRules(t, rule)
				}
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
		{"a flag that the chart sets", `flags: {web.listen-address: ":1"}`, "--web.listen-address is for the chart to set"},
		{"a flag with dashes", `flags: {--log.level: debug}`, "no flag ----log.level"},
		{"replicas of shards", `{replicaCount: 2, shardCount: 2}`, "cannot both be more than 1"},
		{"two scrapes of the same", `{podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}`, "only one of serviceMonitor"},
		{"discovery of one of two replicas", `{replicaCount: 2, scrapeConfig: {enabled: true}}`, "scrapeConfig asks one exporter"},
		{"one address of all shards", `{shardCount: 2, scrapeConfig: {enabled: true}, flags: {web.external-url: "http://x/"}}`, "web.external-url would be"},
		{"an unknown flag", `flags: {bogus: 1}`, "the exporter has no flag --bogus"},
		{"an unknown flag of the web server", `flags: {web.bogus: true}`, "the exporter has no flag --web.bogus"},
		{"more replicas than requests", `replicaCount: 9`, "9 pods share the 8 requests"},
		{"more shards than requests", `shardCount: 9`, "9 pods share the 8 requests"},
		{"more replicas than requests by a flag", `{replicaCount: 3, flags: {api.rate-use: 2}}`, "3 pods share the 2 requests"},
		{"more replicas than requests by the file", `{replicaCount: 3, config: {organizations: [{rate_use: 8}, {rate_use: 2}]}}`, "3 pods share the 2 requests"},
		{"more use than the API allows", `flags: {api.rate-use: 16}`, "api.rate-use, which is 16, is more than api.rate-limit, which is 10"},
		{"half a certificate", `web: {probeCert: tls.crt}`, "web.probeCert and web.probeKey"},
		{"two configuration files", `{config: {services: {}}, existingConfigMap: mine}`, "config and existingConfigMap"},
		{"a selector among the pods' labels", `podLabels: {app.kubernetes.io/name: mine}`, "app.kubernetes.io/name cannot be changed"},
		{"a selector among all labels", `commonLabels: {app.kubernetes.io/instance: mine}`, "app.kubernetes.io/instance cannot be changed"},
		{"a probe of another kind", `livenessProbe: {enabled: false}`, "/livenessProbe"},
		{"a rule that is not there", `prometheusRule: {enabled: true, disabled: [Bogus]}`, "no rule or group Bogus"},
		{"a severity of no alert", `prometheusRule: {enabled: true, severity: {Bogus: info}}`, "no alert Bogus"},
		{"a threshold of no alert", `prometheusRule: {enabled: true, thresholds: {Bogus: 1}}`, "no alert Bogus"},
		{"a threshold where there is none", `prometheusRule: {enabled: true, thresholds: {ClickHousePostgresExporterDown: 1}}`, "ClickHousePostgresExporterDown has no threshold"},
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
// value, or a value no template that uses it.
func TestHelmSchemaKnowsValues(t *testing.T) {
	type object struct {
		Ref        string `json:"$ref"`
		Properties map[string]object
	}
	var schema object
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
		// By itself, or by its name where several are passed on.
		if !regexp.MustCompile(`\.Values\.` + name + `\b|"` + name + `"`).MatchString(templates.String()) {
			t.Errorf("value %s is used by no template", name)
		}
		nested, _ := value.(map[string]any)
		for key := range p.Properties {
			if _, ok := nested[key]; !ok && name != "resources" {
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

// TestHelmFiles holds the chart's copies against what they are copied from.
func TestHelmFiles(t *testing.T) {
	names := regexp.MustCompile("(?m)^\\| `--([a-z.-]+)`")
	flags, _, _ := strings.Cut(string(read(t, inRoot("docs/flags.md"))), "\n## ")
	var lines strings.Builder
	for _, m := range names.FindAllStringSubmatch(flags, -1) {
		lines.WriteString(m[1] + "\n")
	}
	files := map[string][]byte{"flags.txt": []byte(lines.String())}
	for _, pattern := range []string{"deploy/prometheus/rules/*.yml", "deploy/grafana/dashboards/*.json"} {
		for _, path := range glob(t, pattern) {
			files[filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path)] = read(t, path)
		}
	}
	for name, content := range files {
		same(t, filepath.Join(chart, "files", filepath.FromSlash(name)), content)
	}
	err := filepath.WalkDir(filepath.Join(chart, "files"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(filepath.Join(chart, "files"), path)
		if _, ok := files[filepath.ToSlash(name)]; !ok || !d.Type().IsRegular() {
			t.Errorf("%s is a copy of nothing: make chart-files", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHelmPackage checks that the archive, which is what most users install,
// makes the same of its files.
func TestHelmPackage(t *testing.T) {
	pkg := action.NewPackage()
	pkg.Destination = t.TempDir()
	archive, err := pkg.Run(chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := loader.Load(archive)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	byName := func(a, b *helmchart.File) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(packed.Files, byName)
	slices.SortFunc(unpacked.Files, byName)
	if d := diff(unpacked.Files, packed.Files); d != "" {
		t.Errorf("the archive has other files (-chart +archive):\n%s", d)
	}
}
