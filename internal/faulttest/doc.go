// Package faulttest tests, with injected faults, what the exporter does when upstream is down, slow
// or wrong, and when its own environment is hostile.
//
// The real binary, with the race detector if the tests have it, polls a simulated upstream over
// real HTTP, through a TCP link that can be cut for faults below HTTP. What takes hours, such as an
// outage of the list, runs in virtual time instead, in the process of the test and without package
// main. Each case checks three things: the result of a scrape, the health metrics, and the log.
// After every case, everything that the exporter has written or served is searched for the secret
// of the API key.
//
// With the build tag soak, there is also a random walk through all faults, for $SOAK_DURATION,
// while a real Prometheus scrapes all pages. Every value that it stores must be one that upstream
// served within the maximum age before, gaps must be explained by faults, and Prometheus itself
// must report no errors.
package faulttest
