// Package inventory is what is known of an organization's services and what follows
// from it: which of them are exported, what can be expected of them by their states,
// and the labels and numbers that they get. It is pure data and functions: it asks
// nobody, and holds no clock.
package inventory
