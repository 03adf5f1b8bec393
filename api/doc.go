// Package api is a read-only client of ClickHouse Cloud's Managed Postgres API.
//
// A [Client] has one method for each call that the exporter needs and none that
// writes. What is common to all of them:
//
//   - Every HTTP request, be it a first attempt, a retry, the next hop of a
//     redirect or a replay by net/http itself, takes a slot of the [Budget]
//     first, because upstream counts requests per API key and not calls.
//   - An attempt succeeds whole or fails: a body that is cut, too large, in an
//     undocumented shape or written by a gateway yields an error, never a part.
//   - Every error is an [*Error]: a kind that suits a metric label and one
//     sentence that names the remedy. No error, log value or formatted struct
//     holds the key's secret.
//   - password and connectionString, which upstream's answers may hold, have no
//     field here to be decoded into.
//
// A refused key (401) is read again from its [CredentialsSource] and, if it
// differs now, tried once more, so that rotation needs no restart. A refusal for
// too many requests (429) pauses the budget for all callers and is returned, not
// retried: retries are what keeps such a storm alive.
package api
