// Package packagingtest holds what users run the exporter with against what
// reads it: the chart against Helm, the Kubernetes manifests against Kustomize,
// the types of Kubernetes and the Prometheus Operator and, built with the tag
// slow, a real API server; the Dockerfile against BuildKit; the workflow files
// against actionlint.
//
// It is a module of its own so that whoever builds the exporter does not
// download Helm and Kubernetes.
//
// Some files in deploy are made from others there. "go test -update" makes them
// anew, along with the golden files.
package packagingtest
