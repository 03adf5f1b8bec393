//go:build slow

package schedule

// long tells that there is time for the largest fleets and the longest hours.
const long = true
