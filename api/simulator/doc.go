// Package simulator serves ClickHouse Cloud's API for Managed Postgres locally: one
// organization whose services are created, change and report metrics, without an account.
//
// It answers as the public guide shows, including envelopes and messages: list, create, read,
// patch, configure, restart, replicate, restore and delete services, and both Prometheus
// endpoints; and, as far as their answers are known, backups, quotas and whoami. OpenAPI
// describes all of it. There are no slow queries, and logs and notifications are not simulated.
// Client and simulator share no code, so that they cannot share a mistake.
//
// # Time
//
// Nothing runs in the background. States and values are functions of the clock Config.Now, so a
// test that moves the clock moves the organization. Metrics are those of the last refresh, see
// Config.RefreshInterval: a change made through the API or by a method shows in the list at
// once, and in metrics from the next refresh on.
//
// Values depend on the seed, the service and the time, and on no other state: counters are
// integrals of a load with a daily rhythm, in closed form. Two simulators with the same seed
// agree at any time, and Series returns the values to expect.
//
// # States
//
// A new service is creating until Config.CreateDelay has passed, then running. A deleted one is
// deleting for Config.DeleteDelay, then gone: 404. A restart, a switchover and a change of size
// take Config.RestartDelay and reset the counters. A change of size or haType is queued for
// Config.ChangeDelay first: until then the service runs with the old values. A service that is
// not running reports PostgresServiceInfo only, with its state. One that was created since the
// last refresh reports nothing yet: its own page is empty, and the organization's has no line
// of it.
//
// # Disks
//
// A disk that fills up quickly, see Config.FillDisks, reaches the limits that the vendor
// documents: services are read-only below 1 GB of free space on disks of up to 64 GB, 5 GB up
// to 128, 7 GB up to 512, and 2 % above; disks that autoscale grow at 90 %. No state and no
// metric says that a service is read-only.
//
// # Backups
//
// The first backup of a primary is complete Config.BackupDelay after the service runs; until
// then it can have no read replica. More follow once a day, in whatever state the service is,
// until StopBackups makes them fail. Each is retained for seven days. What the API answers for
// a read replica is not documented; here it has no backups.
//
// # Access
//
// A request without a valid key is answered 401 and does not count towards any rate limit. A
// request with one counts when it is let through, whatever the answer; one that is refused with
// 429 does not. X-RateLimit-Reset then says in how many seconds, with a fraction, the next
// request is let through.
package simulator
