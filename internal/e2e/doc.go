// Package e2e holds the exporter against a real Prometheus: its scrape
// manager, storage and query engine in the test's own process, scraping the
// real binary, which in turn polls the simulated upstream.
//
// It is a module of its own so that whoever builds the exporter does not
// download Prometheus's server and all that it depends on.
package e2e
