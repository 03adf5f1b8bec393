//go:build slow

package packagingtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

const (
	kubernetes    = "v1.36.3"
	controllerGen = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.20.1"
)

// TestAPIServer creates everything that the kustomizations and the chart make
// in a real API server, which refuses unknown fields, and then the pods that
// its controllers, which are not running, would make, in a namespace that
// enforces the restricted Pod Security Standard.
func TestAPIServer(t *testing.T) {
	etcd := tool(t, "etcd", "etcd-server")
	cluster := startAPIServer(t, etcd, buildAPIServer(t))

	for _, path := range crds(t) {
		cluster.create(t, read(t, path), "")
	}
	// An API is there some moments after its definition.
	eventually(t, time.Minute, func() error {
		for _, resource := range []string{"servicemonitors", "podmonitors", "prometheusrules"} {
			if err := cluster.api.RESTClient().Get().AbsPath("/apis/monitoring.coreos.com/v1/" + resource).Do(t.Context()).Error(); err != nil {
				return err
			}
		}
		return cluster.api.RESTClient().Get().AbsPath("/apis/monitoring.coreos.com/v1alpha1/scrapeconfigs").Do(t.Context()).Error()
	})

	t.Run("refuses what it should", func(t *testing.T) {
		err := cluster.tryCreate(t.Context(), []byte(`{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {port: [{port: 1}]}}`), "default")
		if err == nil || !strings.Contains(err.Error(), `unknown field "spec.port"`) {
			t.Errorf("an unknown field: %v", err)
		}
		err = cluster.tryCreate(t.Context(), []byte(`{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: x}, spec: {selector: {}, endpoints: [{honourLabels: true}]}}`), "default")
		if err == nil || !strings.Contains(err.Error(), `unknown field "spec.endpoints[0].honourLabels"`) {
			t.Errorf("an unknown field of the operator's: %v", err)
		}
	})
	for name, dir := range overlays {
		t.Run("kustomize "+name, func(t *testing.T) { cluster.checkSet(t, kustomize(t, dir)) })
	}
	for name, v := range values {
		t.Run("helm "+name, func(t *testing.T) {
			namespaces := `
apiVersion: v1
kind: Namespace
metadata:
  name: postgres-metrics
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
{apiVersion: v1, kind: Namespace, metadata: {name: monitoring}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: elsewhere, labels: {pod-security.kubernetes.io/enforce: restricted}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: grafana}}
---
`
			cluster.checkSet(t, append([]byte(namespaces), template(t, v)...))
		})
	}
	t.Run("helm install", cluster.checkInstall)
}

type cluster struct {
	config  *rest.Config
	api     *discovery.DiscoveryClient
	objects dynamic.Interface
}

// checkSet creates the objects and their pods, and deletes them again.
func (c *cluster) checkSet(t *testing.T, manifests []byte) {
	t.Helper()
	for _, document := range documents(t, manifests) {
		c.create(t, document, "")
	}
	for _, w := range workloads(decode(t, onlyWorkloads(t, manifests))) {
		account := w.template.Spec.ServiceAccountName
		if account == "" || account == "default" {
			// Which a controller would have made.
			account := fmt.Sprintf(`{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: %s}}`, w.namespace)
			if err := c.tryCreate(t.Context(), []byte(account), ""); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Error(err)
			}
		}
		pod := core.Pod{
			TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: *w.template.Spec.DeepCopy(),
		}
		pod.Name, pod.Namespace = w.name+"-0", w.namespace
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&pod)
		if err != nil {
			t.Fatal(err)
		}
		delete(content, "status")
		manifest, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		c.create(t, manifest, "")
	}
}

// onlyWorkloads leaves out what is no Deployment or StatefulSet.
func onlyWorkloads(t *testing.T, manifests []byte) []byte {
	t.Helper()
	var kept []byte
	for _, document := range documents(t, manifests) {
		if regexp.MustCompile(`(?m)^kind: (Deployment|StatefulSet)$`).Match(document) {
			kept = append(append(kept, "---\n"...), document...)
		}
	}
	return kept
}

// create creates an object until the test ends. A namespace stays.
func (c *cluster) create(t *testing.T, manifest []byte, namespace string) {
	t.Helper()
	object, resource, err := c.resource(manifest, namespace)
	if err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	_, err = resource.Create(t.Context(), object, meta.CreateOptions{FieldValidation: meta.FieldValidationStrict})
	if object.GetKind() == "Namespace" && apierrors.IsAlreadyExists(err) {
		return
	}
	if err != nil {
		t.Errorf("%v\n%s", err, manifest)
		return
	}
	// Whoever applies it again must change nothing.
	before, err := resource.Get(t.Context(), object.GetName(), meta.GetOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	after, err := resource.Apply(t.Context(), object.GetName(), object, meta.ApplyOptions{FieldManager: "test", Force: true, DryRun: []string{meta.DryRunAll}})
	if err != nil {
		t.Errorf("%v\n%s", err, manifest)
	} else if before.GetGeneration() != after.GetGeneration() {
		t.Errorf("applying %s %s again changes it", object.GetKind(), object.GetName())
	}
	if object.GetKind() == "Namespace" || object.GetKind() == "CustomResourceDefinition" {
		return
	}
	t.Cleanup(func() {
		var now int64
		background := meta.DeletePropagationBackground
		// The test's own context has ended.
		if err := resource.Delete(context.Background(), object.GetName(), meta.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background}); err != nil {
			t.Error(err)
		}
	})
}

func (c *cluster) tryCreate(ctx context.Context, manifest []byte, namespace string) error {
	object, resource, err := c.resource(manifest, namespace)
	if err != nil {
		return err
	}
	_, err = resource.Create(ctx, object, meta.CreateOptions{FieldValidation: meta.FieldValidationStrict})
	return err
}

// resource returns an object and where it belongs. The namespace is for one
// that names none.
func (c *cluster) resource(manifest []byte, namespace string) (*unstructured.Unstructured, dynamic.ResourceInterface, error) {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(manifest, &object.Object); err != nil {
		return nil, nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(c.api)
	if err != nil {
		return nil, nil, err
	}
	kind := object.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, nil, err
	}
	if n := object.GetNamespace(); n != "" {
		namespace = n
	}
	if mapping.Scope.Name() == "root" {
		return object, c.objects.Resource(mapping.Resource), nil
	}
	return object, c.objects.Resource(mapping.Resource).Namespace(namespace), nil
}

// crds makes the definitions of what the manifests use from the operator's
// types, as the operator itself does.
func crds(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	const api = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/"
	run(t, ".", nil, "go", "run", controllerGen, "crd:crdVersions=v1,generateEmbeddedObjectMeta=true",
		"paths="+api+"v1", "paths="+api+"v1alpha1", "output:crd:dir="+dir)
	var paths []string
	for _, name := range []string{"servicemonitors", "podmonitors", "prometheusrules", "scrapeconfigs"} {
		paths = append(paths, filepath.Join(dir, "monitoring.coreos.com_"+name+".yaml"))
	}
	return paths
}

// buildAPIServer returns the path of the server, which takes minutes to build
// the first time.
func buildAPIServer(t *testing.T) string {
	t.Helper()
	dir := cache(t, "kube-apiserver-"+kubernetes)
	path := filepath.Join(dir, "kube-apiserver")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	// Kubernetes replaces its libraries by directories of its own repository,
	// which its module does not hold. They are published under a version.
	var mod strings.Builder
	fmt.Fprintf(&mod, "module scratch\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n\n", kubernetes)
	library := strings.Replace(kubernetes, "v1.", "v0.", 1)
	original := read(t, download(t, "k8s.io/kubernetes@"+kubernetes).GoMod)
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:replace )?(k8s\.io/\S+) => \./staging/`).FindAllSubmatch(original, -1) {
		fmt.Fprintf(&mod, "replace %s => %s %s\n", m[1], m[1], library)
	}
	// Those that are required, too, without being replaced in a list.
	for _, m := range regexp.MustCompile(`(?m)^\s*(k8s\.io/\S+) v0\.0\.0$`).FindAllSubmatch(original, -1) {
		if line := fmt.Sprintf("replace %s => %s %s\n", m[1], m[1], library); !strings.Contains(mod.String(), line) {
			mod.WriteString(line)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-mod=mod",
		// Helm asks which version it is.
		"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion="+kubernetes, "-o", path, "k8s.io/kubernetes/cmd/kube-apiserver")
	return path
}

func startAPIServer(t *testing.T, etcd, apiserver string) *cluster {
	t.Helper()
	dir := t.TempDir()
	store, peer, port := freePort(t), freePort(t), freePort(t)
	background(t, etcd, "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+loopback("http", store), "--advertise-client-urls="+loopback("http", store),
		"--listen-peer-urls="+loopback("http", peer))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, tokens := filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens.csv")
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(keyFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	token := rand.Text()
	if err := os.WriteFile(tokens, []byte(token+",test,test,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, apiserver, "--etcd-servers="+loopback("http", store), "--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port), "--cert-dir="+filepath.Join(dir, "certificates"),
		"--token-auth-file="+tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+keyFile,
		"--service-account-signing-key-file="+keyFile)
	config := &rest.Config{
		Host: loopback("https", port), BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() error {
		return api.RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
	return &cluster{config: config, api: api, objects: objects}
}
