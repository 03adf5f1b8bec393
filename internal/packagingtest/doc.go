// Package packagingtest holds what users run the exporter with against what
// reads it: the chart against Helm, with its own tests by helm-unittest; the
// Kubernetes manifests against Kustomize, the types of Kubernetes and the
// Prometheus Operator; the unit against systemd; the workflow files against
// actionlint. Built with the tag slow, also chart and manifests against a real
// API server, the image against BuildKit and Docker, the release against
// goreleaser.
//
// It is a module of its own so that whoever builds the exporter does not
// download Helm and Kubernetes.
//
// Some files in deploy are made from others there. "go test -update" makes them
// anew, along with the golden files.
package packagingtest
