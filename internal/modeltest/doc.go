// Package modeltest holds the collector against a model of it.
//
// A state machine of pgregory.net/rapid plays upstream, its users and the clock:
// services come, go and change; lists and pages disagree, fail, are cut, are late;
// services fall out of the organization's page and come back; the configuration is
// replaced; time passes. After each event every page that the collector serves is
// compared, series by series, with what the oracle makes of the raw answers that
// upstream has given. All of it happens in a testing/synctest bubble, in virtual time.
//
// The oracle is what the program promises, written down once more and as plainly as
// possible: it parses with expfmt, relabels with Prometheus's own package and
// remembers nothing but answers. If it and the collector differ, one of the two is
// wrong; which of them, docs/faults.md and the package comment of collector tell.
//
// Which request is made when is the planner's business, and the oracle does not
// predict it: it sees what upstream was asked and what it answered. What a shorter
// refresh period would let expire later, and the random part of intervals and pauses,
// are kept out of play by the choice of budget, see budget in adapter_test.go.
//
// What the machine finds becomes a test of its own, in found_test.go.
package modeltest
