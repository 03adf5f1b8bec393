// Package faulttest proves, by injected faults, what the exporter does when upstream
// is down, slow or lying, and when its own surroundings are hostile.
//
// The real binary, with the race detector if the tests have it, polls a simulated upstream over
// real HTTP, through a TCP link that can be cut where the fault is below HTTP. What
// takes hours, such as an outage of the list, runs in virtual time instead, with
// everything but main in the process of the test. Each case asserts three things:
// what a scrape returns, what the health metrics say, and what the log says. After
// every case, everything that the exporter has ever emitted is searched for the
// secret of the API key.
//
// With the build tag soak there is also a random walk through all the faults, for
// as long as $SOAK_DURATION says, while a real Prometheus scrapes everything and each
// service. Whatever it has stored must be what upstream said at most the maximum age
// before, gaps must be where the faults explain them, and it must have found nothing to
// complain of itself.
package faulttest
