// Package simulator serves ClickHouse Cloud's API for Managed Postgres locally: one
// organization whose services live, change and are measured, without an account.
//
// It answers what the public guide shows, down to the envelopes and messages: list, create,
// read, patch, configure, restart, replicate, restore and delete services, and both Prometheus
// endpoints; and, as far as their answers are known, backups, quotas and who asks. OpenAPI
// describes all of it. No query is slow here, and logs and notifications are not simulated.
// Client and simulator share no code, so that they cannot share a mistake.
//
// # Time
//
// Nothing runs in the background. States and values are functions of the clock that Config.Now
// is, so a test that moves the clock moves the organization. Metrics are of the last refresh,
// see Config.RefreshInterval: a change made through the API or by a method is in the list at
// once, and in metrics from the next refresh on.
//
// Values are functions of the seed, the service and the time, and no state: counters are
// integrals of a load with a daily rhythm, in closed form. Two simulators with one seed agree
// at any time, and Series says what is right to expect.
//
// # States
//
// A created service is creating until Config.CreateDelay has passed, then running; one that is
// deleted is deleting for Config.DeleteDelay, then gone: 404. A restart, a switchover and a
// change of size take Config.RestartDelay, and counters begin anew. A change of size or haType
// is queued for Config.ChangeDelay before: the service runs with the old values until then. A service that is not
// running reports PostgresServiceInfo only, with its state; one that was created since the last
// refresh reports nothing yet, which is an empty page of its own and no line in the
// organization's.
//
// # Disks
//
// A disk that does not fill slowly, see Config.FillDisks, reaches what the vendor documents:
// services are read-only below 1 GB of free space up to 64 GB of disk, 5 GB up to 128, 7 GB up
// to 512, and 2 % above; disks that autoscale are larger from 90 % on. No state and no metric
// tells that a service is read-only.
//
// # Backups
//
// The first backup of a primary is complete Config.BackupDelay after it runs; until then no
// read replica can be made of it. More follow once a day, in whatever state the service is,
// until StopBackups lets them fail, and each is retained for seven days. No source says what a
// read replica tells of backups; here it has none.
//
// # Access
//
// A request without a valid key is answered 401 and counts for no rate limit. A request with
// one counts when it is let through, whatever the answer; one that is refused by 429 does not.
// X-RateLimit-Reset then says in how many seconds, with a fraction, the next is let through.
package simulator
