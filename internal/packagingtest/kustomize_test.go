package packagingtest

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kustomize builds a directory as "kubectl apply -k" does.
func kustomize(t *testing.T, dir string) []byte {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsRootOnly
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("build %s: %v", dir, err)
	}
	manifests, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

// overlays are what a user may build, by the name of its golden file. Those in
// testdata combine the components as a user's own overlay would.
var overlays = map[string]string{
	"standalone":         "../../deploy/kubernetes/standalone",
	"demo":               "../../deploy/kubernetes/demo",
	"sharded":            "../../deploy/kubernetes/sharded",
	"sidecar":            "../../deploy/kubernetes/sidecar",
	"operator-tls":       "testdata/overlays/operator-tls",
	"sharded-podmonitor": "testdata/overlays/sharded-podmonitor",
	"http-sd":            "testdata/overlays/http-sd",
}

func TestKustomize(t *testing.T) {
	for name, dir := range overlays {
		t.Run(name, func(t *testing.T) {
			manifests := kustomize(t, dir)
			checkObjects(t, decode(t, manifests))
			same(t, filepath.Join("testdata", "kustomize", name+".yaml"), elide(t, manifests))
		})
	}
}

func TestKustomizeSharded(t *testing.T) {
	objects := decode(t, kustomize(t, overlays["sharded"]))
	set := one[*apps.StatefulSet](t, objects)
	if !slices.Contains(set.Spec.Template.Spec.Containers[0].Args, "--shard.count=3") || *set.Spec.Replicas != 3 {
		t.Errorf("%d replicas with %q, want 3 shards", *set.Spec.Replicas, set.Spec.Template.Spec.Containers[0].Args)
	}
	governing := slices.IndexFunc(every[*core.Service](objects), func(s *core.Service) bool {
		return s.Name == set.Spec.ServiceName && s.Spec.ClusterIP == core.ClusterIPNone
	})
	if governing < 0 {
		t.Errorf("no headless service %s for the shards' names", set.Spec.ServiceName)
	}
}

func TestKustomizeSidecarIsReachedByItsPodOnly(t *testing.T) {
	set := one[*apps.StatefulSet](t, decode(t, kustomize(t, overlays["sidecar"])))
	if len(set.Spec.Template.Spec.InitContainers) != 1 {
		t.Fatal("no sidecar was put into the workload with the label")
	}
	c := set.Spec.Template.Spec.InitContainers[0]
	if !slices.Contains(c.Args, "--web.listen-address=127.0.0.1:9924") || len(c.Ports) != 0 {
		t.Errorf("sidecar listens beyond its pod: %q %v", c.Args, c.Ports)
	}
	if c.ReadinessProbe != nil {
		t.Error("the pod's readiness depends on the exporter's, and so on ClickHouse Cloud")
	}
	if c.RestartPolicy == nil || *c.RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Error("the exporter is an init container that has to end, not a sidecar")
	}
}

func TestKustomizeDemoReachesNothing(t *testing.T) {
	for _, p := range every[*networking.NetworkPolicy](decode(t, kustomize(t, overlays["demo"]))) {
		if len(p.Spec.Egress) != 0 || !slices.Contains(p.Spec.PolicyTypes, networking.PolicyTypeEgress) {
			t.Errorf("the demo may talk to %v", p.Spec.Egress)
		}
	}
}

// TestPrometheusRule holds the manifest against the rule files, which is what
// promtool tests.
func TestPrometheusRule(t *testing.T) {
	var made bytes.Buffer
	made.WriteString(`# Made from deploy/prometheus/rules by "go test -update" in internal/packagingtest.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: clickhouse-postgres-exporter
  labels:
    app.kubernetes.io/name: clickhouse-postgres-exporter
    app.kubernetes.io/instance: clickhouse-postgres-exporter
spec:
  groups:
`)
	for _, path := range glob(t, "deploy/prometheus/rules/*.yml") {
		_, groups, ok := strings.Cut(string(read(t, path)), "\ngroups:\n")
		if !ok {
			t.Fatalf("%s has no groups", path)
		}
		for line := range strings.Lines(groups) {
			if strings.TrimSpace(line) != "" {
				line = "  " + line
			}
			made.WriteString(line)
		}
	}
	path := inRoot("deploy/kubernetes/components/prometheusrule/prometheusrule.yaml")
	same(t, path, made.Bytes())
	checkRules(t, one[*monitoring.PrometheusRule](t, decode(t, made.Bytes())))
}

// checkRules fails the test unless the object has all groups of the rule files,
// in their order.
func checkRules(t *testing.T, rule *monitoring.PrometheusRule) {
	t.Helper()
	var want []monitoring.RuleGroup
	for _, path := range glob(t, "deploy/prometheus/rules/*.yml") {
		var file monitoring.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(read(t, path), &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		want = append(want, file.Groups...)
	}
	if d := diff(want, rule.Spec.Groups); d != "" {
		t.Errorf("rules differ from the rule files (-files +object):\n%s", d)
	}
}

// TestDashboards checks that the component ships each dashboard.
func TestDashboards(t *testing.T) {
	checkDashboards(t, every[*core.ConfigMap](decode(t, kustomize(t, overlays["operator-tls"]))))
}

// checkDashboards fails the test unless there is a ConfigMap with each
// dashboard's file, as it is, which Grafana's sidecar will find.
func checkDashboards(t *testing.T, maps []*core.ConfigMap) {
	t.Helper()
	for _, path := range glob(t, "deploy/grafana/dashboards/*.json") {
		found := false
		for _, m := range maps {
			if data, ok := m.Data[filepath.Base(path)]; ok {
				found = true
				if strings.TrimSpace(data) != strings.TrimSpace(string(read(t, path))) {
					t.Errorf("config map %s differs from %s", m.Name, path)
				}
				if m.Labels["grafana_dashboard"] != "1" {
					t.Errorf("config map %s lacks the label that Grafana's sidecar looks for", m.Name)
				}
				if size := len(data); size > 900_000 {
					t.Errorf("config map %s has %d bytes, and may have 1 MiB", m.Name, size)
				}
			}
		}
		if !found {
			t.Errorf("no config map holds %s", path)
		}
	}
}
