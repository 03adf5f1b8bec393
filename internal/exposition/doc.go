// Package exposition turns pages of Prometheus metrics into series and back:
// it parses, rewrites, merges, encodes and compresses.
package exposition
