// Package modeltest compares the collector with a model of it.
//
// A state machine of pgregory.net/rapid plays upstream, its users and the clock: services come, go
// and change; lists and pages disagree, fail, are cut off or late; services drop out of the
// organization's page and return; the configuration is replaced; time passes. After each event,
// every page that the collector serves is compared, series by series, with the one that the oracle
// makes of upstream's raw answers. Everything happens in a testing/synctest bubble, in virtual
// time.
//
// The oracle is an independent implementation of what the program promises, as plain as possible:
// it parses with expfmt, relabels with Prometheus's package and keeps nothing but answers. If it
// and the collector differ, one of them is wrong; docs/faults.md and the package comment of
// collector say which.
//
// The oracle does not predict requests, which are up to the planner: it sees which were made and
// what upstream answered. A budget is chosen for which the planner's periods, and the random part
// of intervals and pauses, do not affect what expires, see budget in adapter_test.go.
//
// A failure that the machine finds becomes a test of its own, in found_test.go. rapid leaves the
// shrunk events in testdata, and the next run starts with them.
//
// The files, in reading order: world_test.go is upstream's data, upstream_test.go gives and records
// its answers, oracle_test.go takes them in, expose_test.go makes pages of them, compare_test.go
// compares these, machine_test.go runs it all and model_test.go has the events.
package modeltest
