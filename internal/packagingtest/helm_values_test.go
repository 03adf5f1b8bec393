package packagingtest

import (
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringalpha "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	helmvalues "helm.sh/helm/v3/pkg/cli/values"
	core "k8s.io/api/core/v1"
)

// set renders the chart with values from the command line, of which one kind is
// given.
func set(t *testing.T, options helmvalues.Options) []byte {
	t.Helper()
	v, err := options.MergeValues(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := installValues(t, v)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(r.Manifest)
}

// TestHelmFlags gives flags in every way in which Helm takes values.
func TestHelmFlags(t *testing.T) {
	for _, test := range []struct {
		name, flag, value, json string
		want                    []string
	}{
		{"integer", "api.rate-limit", "20", "20", []string{"--api.rate-limit=20"}},
		{"large integer", "api.rate-limit", "1000000", "1000000", []string{"--api.rate-limit=1000000"}},
		{"text", "metrics.interval", "60s", `"60s"`, []string{"--metrics.interval=60s"}},
		{"text with spaces", "enrich.labels", "region: size", `"region: size"`, []string{"--enrich.labels=region: size"}},
		{"nothing", "enrich.labels", "", `""`, []string{"--enrich.labels="}},
		{"yes", "metrics.timestamps", "true", "true", []string{"--metrics.timestamps"}},
		{"no", "metrics.timestamps", "false", "false", []string{"--no-metrics.timestamps"}},
		{"of the web server", "web.disable-exporter-metrics", "true", "true", []string{"--web.disable-exporter-metrics"}},
		{"several", "enrich.labels", "{a,1}", `["a", 1]`, []string{"--enrich.labels=a", "--enrich.labels=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			escaped := "flags." + strings.ReplaceAll(test.flag, ".", `\.`)
			for name, manifests := range map[string][]byte{
				"--set":        set(t, helmvalues.Options{Values: []string{escaped + "=" + test.value}}),
				"--set-json":   set(t, helmvalues.Options{JSONValues: []string{escaped + "=" + test.json}}),
				"--set-string": set(t, helmvalues.Options{StringValues: []string{escaped + "=" + test.value}}),
				"file":         template(t, "flags: {"+test.flag+": "+test.json+"}"),
			} {
				var got []string
				for _, arg := range exporterOf(t, manifests).Args {
					if strings.Contains(arg, test.flag) {
						got = append(got, arg)
					}
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("%s: %q, want %q", name, got, test.want)
				}
			}
		})
	}
}

// exporterOf returns the only container that runs the exporter.
func exporterOf(t *testing.T, manifests []byte) core.Container {
	t.Helper()
	all := workloads(decode(t, manifests))
	if len(all) != 1 || len(all[0].exporters()) != 1 {
		t.Fatalf("want one container with the exporter in\n%s", manifests)
	}
	return all[0].exporters()[0]
}

// TestHelmLabels checks that labels of several origins become one set, in which
// the more special one wins.
func TestHelmLabels(t *testing.T) {
	objects := decode(t, template(t, values["everything"]))
	if got := workloads(objects)[0].template.Labels["team"]; got != "postgres" {
		t.Errorf("the pods have team %q, want postgres", got)
	}
	s := one[*core.Service](t, objects)
	if s.Labels["team"] != "network" || s.Labels["app.kubernetes.io/version"] != "mine" || s.Annotations["example.com/owner"] != "network" {
		t.Errorf("the service has labels %v and annotations %v", s.Labels, s.Annotations)
	}
	if s.Namespace != "elsewhere" {
		t.Errorf("the service is in namespace %s", s.Namespace)
	}
}

func TestHelmScrapeConfig(t *testing.T) {
	for name, test := range map[string]struct {
		discovery []string
		targets   []monitoringalpha.Target
	}{
		"config": {
			[]string{"http://test-clickhouse-postgres-exporter.postgres-metrics.svc:9924/sd"},
			[]monitoringalpha.Target{"test-clickhouse-postgres-exporter.postgres-metrics.svc:9924"},
		},
		"discovered-shards": {
			[]string{
				"https://test-clickhouse-postgres-exporter-0.test-clickhouse-postgres-exporter-shards.postgres-metrics.svc:9443/sd",
				"https://test-clickhouse-postgres-exporter-1.test-clickhouse-postgres-exporter-shards.postgres-metrics.svc:9443/sd",
			},
			[]monitoringalpha.Target{
				"test-clickhouse-postgres-exporter-0.test-clickhouse-postgres-exporter-shards.postgres-metrics.svc:9443",
				"test-clickhouse-postgres-exporter-1.test-clickhouse-postgres-exporter-shards.postgres-metrics.svc:9443",
			},
		},
	} {
		all := every[*monitoringalpha.ScrapeConfig](decode(t, template(t, values[name])))
		if len(all) != 2 {
			t.Fatalf("%d scrape configs, want one of the services and one of the exporter", len(all))
		}
		var urls []string
		for _, d := range all[0].Spec.HTTPSDConfigs {
			urls = append(urls, string(d.URL))
		}
		if !slices.Equal(urls, test.discovery) {
			t.Errorf("%s: service discovery at %q, want %q", name, urls, test.discovery)
		}
		if targets := all[1].Spec.StaticConfigs[0].Targets; !slices.Equal(targets, test.targets) {
			t.Errorf("%s: targets %q, want %q", name, targets, test.targets)
		}
	}
}

// rules returns the rules that the chart makes with these values of
// prometheusRule, by name.
func rules(t *testing.T, v string) map[string]monitoring.Rule {
	t.Helper()
	all := map[string]monitoring.Rule{}
	for _, g := range one[*monitoring.PrometheusRule](t, decode(t, template(t, "prometheusRule: {enabled: true, "+v+"}"))).Spec.Groups {
		for _, r := range g.Rules {
			all[r.Alert+r.Record] = r
		}
	}
	return all
}

func TestHelmRules(t *testing.T) {
	const cpu, cache = "ClickHousePostgresCPUHigh", "ClickHousePostgresCacheHitRatioLow"
	all := rules(t, "")
	if _, ok := rules(t, "disabled: ["+cpu+"]")[cpu]; ok {
		t.Error("a disabled alert is there")
	}
	group := one[*monitoring.PrometheusRule](t, decode(t, template(t, `prometheusRule: {enabled: true}`))).Spec.Groups[0]
	less := rules(t, "disabled: ["+group.Name+"]")
	if len(less) != len(all)-len(group.Rules) {
		t.Errorf("%d rules without group %s of %d, want %d", len(less), group.Name, len(group.Rules), len(all)-len(group.Rules))
	}
	changed := rules(t, "severity: {"+cpu+": info}, additionalRuleLabels: {team: database, severity: none}, thresholds: {"+cpu+": 75.5, "+cache+": 80}")
	if l := changed[cpu].Labels; l["severity"] != "info" || l["team"] != "database" {
		t.Errorf("labels %v", l)
	}
	if l := changed[cache].Labels; l["severity"] != "none" {
		t.Errorf("labels %v", l)
	}
	for name, to := range map[string][2]string{cpu: {"> 90", "> 75.5"}, cache: {"< 90\n", "< 80\n"}} {
		if want, got := strings.Replace(all[name].Expr.StrVal, to[0], to[1], 1), changed[name].Expr.StrVal; got != want || got == all[name].Expr.StrVal {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
