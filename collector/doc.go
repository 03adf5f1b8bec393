// Package collector is what the program knows: it polls ClickHouse Cloud in
// the background, joins metrics with the inventory, applies the user's rules and
// publishes the result, from which pages are served without waiting for anything.
//
// # How data flows
//
// One poller an organization owns all that is known of it. It asks for the list of
// services (the inventory), the organization's metrics page and services' own pages,
// as package schedule plans, and takes in one response at a time. Of each service it
// holds the newest metrics as upstream wrote them; what is served follows from these,
// the inventory labels and the rules (derive). After each response it publishes a new,
// immutable view of its organization by one atomic pointer. Readers load that pointer:
// they take no lock, and a failure, a slow answer or a huge page of one organization
// delays no other and no scrape. A reload sends the poller a new configuration, which
// it applies to what it holds.
//
// What was computed before is used again only where its input is the same; forgetting
// all of it changes no byte of any page ([Options].NoMemo).
//
// # What stands when something fails
//
//   - A failed or refused list changes nothing: the last inventory, and with it
//     every label, stands, for however long. Its age is exposed.
//   - A failed or refused metrics page leaves the last good one in place until it
//     is older than MaxAge; then its series vanish, while health goes on.
//   - At start, metrics are held back until the first list has been answered or
//     has failed, so that a restart does not publish every series twice, first
//     without and then with its labels.
//   - A list that is empty after one that was not has to be confirmed by a second
//     one before the fleet vanishes. An organization empty from the start is fine.
//   - A service that a successful list no longer names is gone at once, together
//     with its series, even where a metrics page, which upstream renews only once
//     a minute, still names it. It is remembered for a few minutes for that
//     purpose; what upstream still reports after that is an unknown service.
//   - An unknown service (in the metrics, not in the inventory) keeps its series,
//     without inventory labels, and is counted.
//   - A panic while a response is taken in is a bug: the organization starts over from
//     nothing, and the others go on.
//
// # Age
//
// Ages are measured both on the monotonic clock and on the wall clock and the
// larger counts: the monotonic clock stands still while a machine is suspended,
// the wall clock jumps. A wall clock that jumps forward by more than MaxAge
// therefore costs a gap until the next poll; serving data of before a suspension
// as if it were young would be worse.
package collector
