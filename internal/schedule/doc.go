// Package schedule decides which request of an organization its rate budget is spent
// on next, and when. It is pure: it asks nobody and holds no clock.
package schedule
