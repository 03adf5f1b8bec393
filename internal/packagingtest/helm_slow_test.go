//go:build slow

package packagingtest

import (
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/release"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// checkInstall installs the chart as Helm does, changes all that a user may
// change about it, from one set of values to the next, and uninstalls it.
func (c *cluster) checkInstall(t *testing.T) {
	const namespace = "installed"
	c.create(t, []byte(`{apiVersion: v1, kind: Namespace, metadata: {name: installed, labels: {pod-security.kubernetes.io/enforce: restricted}}}`), "")
	for _, name := range []string{"monitoring", "grafana"} {
		c.create(t, []byte(`{apiVersion: v1, kind: Namespace, metadata: {name: `+name+`}}`), "")
	}
	settings := cli.New()
	settings.KubeAPIServer, settings.KubeToken, settings.KubeInsecureSkipTLSVerify = c.config.Host, c.config.BearerToken, true
	settings.SetNamespace(namespace)
	helm := new(action.Configuration)
	if err := helm.Init(settings.RESTClientGetter(), namespace, "secret", t.Logf); err != nil {
		t.Fatal(err)
	}
	chart, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}

	for i, test := range []struct {
		values string // TLS and a password are of replicas-tls and discovered-shards
		kind   string
	}{
		{"default", "Deployment"}, {"replicas-tls", "Deployment"}, {"discovered-shards", "StatefulSet"}, {"config", "Deployment"}, {"demo", "Deployment"},
	} {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(values[test.values]), &v); err != nil {
			t.Fatal(err)
		}
		var r *release.Release
		if i == 0 {
			install := action.NewInstall(helm)
			install.ReleaseName, install.Namespace = "exporter", namespace
			r, err = install.RunWithContext(t.Context(), chart, v)
		} else {
			upgrade := action.NewUpgrade(helm)
			upgrade.Namespace, upgrade.ResetValues = namespace, true
			r, err = upgrade.RunWithContext(t.Context(), "exporter", chart, v)
		}
		if err != nil {
			t.Fatalf("%s: %v", test.values, err)
		}
		if r.Info.Status != release.StatusDeployed {
			t.Errorf("%s: the release is %s", test.values, r.Info.Status)
		}
		for kind, want := range map[string]int{"Deployment": 0, "StatefulSet": 0, test.kind: 1} {
			if got := len(c.list(t, apps.SchemeGroupVersion.String(), kind, namespace)); got != want {
				t.Errorf("%s: %d objects of kind %s, want %d", test.values, got, kind, want)
			}
		}
	}

	if _, err := action.NewUninstall(helm).Run("exporter"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ConfigMap", "Secret", "Service", "ServiceAccount"} {
		for _, left := range c.list(t, core.SchemeGroupVersion.String(), kind, namespace) {
			// Whatever makes these in each namespace is no part of the chart.
			if name := left.GetName(); name != "kube-root-ca.crt" && name != "default" {
				t.Errorf("%s %s is left over", kind, name)
			}
		}
	}
}

// list returns what there is of a kind in a namespace.
func (c *cluster) list(t *testing.T, version, kind, namespace string) []unstructured.Unstructured {
	t.Helper()
	_, resource, err := c.resource([]byte("{apiVersion: "+version+", kind: "+kind+", metadata: {name: any}}"), namespace)
	if err != nil {
		t.Fatal(err)
	}
	all, err := resource.List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return all.Items
}
