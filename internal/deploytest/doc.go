// Package deploytest holds the files that users deploy against what they must
// be: rules and their runbook, sample configurations, dashboards. It has only
// tests. Those that need a whole Prometheus are in internal/e2e.
package deploytest
