package packagingtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringalpha "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	podsecurity "k8s.io/pod-security-admission/api"
	podsecuritypolicy "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// decode reads manifests as the types that they say they are. A field that the
// type lacks, or one given twice, fails the test.
func decode(t *testing.T, manifests []byte) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme,
		monitoring.AddToScheme, monitoringalpha.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, document := range documents(t, manifests) {
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		objects = append(objects, object)
	}
	return objects
}

// documents splits a stream of YAML and leaves empty documents out.
func documents(t *testing.T, manifests []byte) [][]byte {
	t.Helper()
	var all [][]byte
	reader := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var content any
		if err := yaml.Unmarshal(document, &content); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if content != nil {
			all = append(all, document)
		}
	}
}

// one returns the only object of its type.
func one[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	all := every[T](objects)
	if len(all) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(all), *new(T))
	}
	return all[0]
}

func every[T runtime.Object](objects []runtime.Object) []T {
	var all []T
	for _, object := range objects {
		if o, ok := object.(T); ok {
			all = append(all, o)
		}
	}
	return all
}

// workload is a Deployment or StatefulSet.
type workload struct {
	name, namespace string
	replicas        int32
	selector        *meta.LabelSelector
	template        core.PodTemplateSpec
}

func workloads(objects []runtime.Object) []workload {
	var all []workload
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.Deployment:
			all = append(all, workload{o.Name, o.Namespace, *o.Spec.Replicas, o.Spec.Selector, o.Spec.Template})
		case *apps.StatefulSet:
			all = append(all, workload{o.Name, o.Namespace, *o.Spec.Replicas, o.Spec.Selector, o.Spec.Template})
		}
	}
	return all
}

// exporters returns the containers that run the exporter, sidecars too.
func (w workload) exporters() []core.Container {
	var all []core.Container
	for _, c := range slices.Concat(w.template.Spec.InitContainers, w.template.Spec.Containers) {
		if strings.Contains(c.Image, "clickhouse_postgres_exporter") {
			all = append(all, c)
		}
	}
	return all
}

// checkObjects holds any set of objects that a user may apply against what all
// of them promise.
func checkObjects(t *testing.T, objects []runtime.Object) {
	t.Helper()
	services := every[*core.Service](objects)
	for _, w := range workloads(objects) {
		checkRestricted(t, w)
		for _, c := range w.exporters() {
			checkExporter(t, w, c)
		}
		if !selects(t, w.selector, w.template.Labels) {
			t.Errorf("workload %s does not select its own pods", w.name)
		}
		for _, s := range services {
			if s.Namespace != w.namespace {
				t.Errorf("service %s and workload %s are in different namespaces", s.Name, w.name)
			}
		}
	}
	for _, s := range services {
		found := false
		for _, w := range workloads(objects) {
			found = found || selects(t, &meta.LabelSelector{MatchLabels: s.Spec.Selector}, w.template.Labels)
			if !found {
				continue
			}
			for _, p := range s.Spec.Ports {
				if !slices.ContainsFunc(allPorts(w), func(c core.ContainerPort) bool { return c.Name == p.TargetPort.StrVal }) {
					t.Errorf("service %s has a target port %q that no container of %s has", s.Name, p.TargetPort.StrVal, w.name)
				}
			}
		}
		if !found {
			t.Errorf("service %s selects no pod", s.Name)
		}
	}
	for _, p := range every[*networking.NetworkPolicy](objects) {
		if len(p.Spec.PodSelector.MatchLabels) == 0 {
			t.Errorf("network policy %s selects every pod of its namespace", p.Name)
		}
	}
	for _, m := range every[*monitoring.ServiceMonitor](objects) {
		scraped := 0
		for _, s := range services {
			if selects(t, &m.Spec.Selector, s.Labels) {
				scraped++
			}
		}
		if scraped != 1 {
			t.Errorf("service monitor %s selects %d services, so that pods are scraped as often, want 1", m.Name, scraped)
		}
		for _, e := range m.Spec.Endpoints {
			if !e.HonorLabels {
				t.Errorf("service monitor %s does not honour upstream's labels", m.Name)
			}
		}
	}
}

func selects(t *testing.T, selector *meta.LabelSelector, set map[string]string) bool {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(labels.Set(set))
}

func allPorts(w workload) []core.ContainerPort {
	var all []core.ContainerPort
	for _, c := range w.template.Spec.Containers {
		all = append(all, c.Ports...)
	}
	return all
}

// checkRestricted asks the code that Kubernetes itself enforces its Pod
// Security Standards with, and what those leave open.
func checkRestricted(t *testing.T, w workload) {
	t.Helper()
	evaluator, err := podsecuritypolicy.NewEvaluator(podsecuritypolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := w.template.Spec
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &w.template.ObjectMeta, &spec) {
		if !r.Allowed {
			t.Errorf("%s is refused by the restricted Pod Security Standard: %s (%s)", w.name, r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Errorf("%s mounts a token for the Kubernetes API, which nothing there talks to", w.name)
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("container %s of %s can write to its image", c.Name, w.name)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("container %s of %s lacks a request or a limit of memory: %v", c.Name, w.name, c.Resources)
		}
		if strings.HasSuffix(c.Image, ":latest") || !regexp.MustCompile(`(:v?\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$`).MatchString(c.Image) {
			t.Errorf("container %s of %s has image %s, which is not pinned", c.Name, w.name, c.Image)
		}
	}
}

// checkExporter checks that a container's parts agree with each other.
func checkExporter(t *testing.T, w workload, c core.Container) {
	t.Helper()
	mounts := func(path string) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(m core.VolumeMount) bool {
			if m.SubPath != "" {
				t.Errorf("container %s mounts %s as a subPath, which does not follow when the source changes", c.Name, m.MountPath)
			}
			return m.ReadOnly && m.MountPath == filepath.Dir(path)
		})
	}
	file := regexp.MustCompile(`^--(?:[a-z.-]*\.)?[a-z-]*(?:file)=(.*)$`)
	for _, arg := range c.Args {
		if m := file.FindStringSubmatch(arg); m != nil && !mounts(m[1]) {
			t.Errorf("container %s has %s, but mounts nothing there read-only", c.Name, arg)
		}
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(w.template.Spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("container %s mounts volume %s, which the pod lacks", c.Name, m.Name)
		}
		if !slices.ContainsFunc(c.Args, func(a string) bool { return strings.Contains(a, m.MountPath+"/") }) {
			t.Errorf("container %s mounts %s, which no flag names", c.Name, m.MountPath)
		}
	}
	if !slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--demo") }) {
		want := fmt.Sprintf("--api.replicas=%d", w.replicas)
		if !slices.Contains(c.Args, want) {
			t.Errorf("%s runs %d pods on one key but has no %s: %q", w.name, w.replicas, want, c.Args)
		}
	}
	for _, p := range []*core.Probe{c.StartupProbe, c.LivenessProbe} {
		if p == nil || p.Exec == nil {
			t.Errorf("container %s is not checked by the program itself, so the check fails under TLS or a password", c.Name)
			continue
		}
		if slices.Contains(p.Exec.Command, "--ready") {
			t.Errorf("container %s would be restarted for an outage of upstream", c.Name)
		}
	}
}

// elide shortens what is copied from other files and is checked on its own, so
// that golden files show what is made here.
func elide(t *testing.T, manifests []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, document := range documents(t, manifests) {
		var object map[string]any
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatal(err)
		}
		switch object["kind"] {
		case "PrometheusRule":
			object["spec"] = "(as in deploy/prometheus/rules)"
		case "ConfigMap":
			data, _ := object["data"].(map[string]any)
			for file := range data {
				if strings.HasSuffix(file, ".json") {
					data[file] = "(as in deploy/grafana/dashboards)"
				}
			}
		}
		b, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(b)
	}
	return out.Bytes()
}

// diff compares objects of Kubernetes, in which an absent list or map is as
// good as an empty one.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}
