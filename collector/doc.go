// Package collector is what the program knows: it polls ClickHouse Cloud in
// the background, joins metrics with the inventory, applies the user's rules and
// publishes the result, from which pages are served without waiting for anything.
//
// # How data flows
//
// One poller an organization owns all that is known of it. It asks for what package
// schedule plans, takes in one response at a time and holds the newest metrics of each
// service as upstream wrote them; what is served follows from these, the inventory
// labels and the rules (derive). After each response it publishes a new, immutable view
// of its organization by one atomic pointer. Readers load that: they take no lock, and
// trouble with one organization delays no other and no scrape. What was computed before
// is used again only where its input is the same; forgetting all of it changes no byte
// of any page ([Options].NoMemo).
//
// # What stands when something fails
//
//   - A failed or refused list changes nothing: the last inventory, and with it
//     every label, stands, for however long. Its age is exposed.
//   - A failed or refused metrics page leaves the last good one in place until it
//     is older than MaxAge; then its series vanish, while health goes on.
//   - Until the first list has been answered or has failed, metrics are held back, or
//     a restart would publish every series twice: without its labels and then with them.
//   - A list that is empty after one that was not has to be confirmed by a second
//     one: an upstream that has lost its database for a moment looks the same.
//   - A service that a list no longer names is gone at once, with its series, even
//     where a metrics page, which upstream renews only once a minute, still names it.
//     What upstream still reports a few minutes later is an unknown service.
//   - An unknown service (in the metrics, not in the inventory) keeps its series,
//     without inventory labels, and is counted.
//   - A panic while a response is taken in is a bug: the organization starts over from
//     nothing, and the others go on.
//
// # Age
//
// Ages are measured on the monotonic clock and on the wall clock, and the larger
// counts: the former stands still while a machine is suspended, the latter jumps. A
// jump forward by more than MaxAge costs a gap until the next poll; serving data of
// before a suspension as if it were young would be worse.
package collector
