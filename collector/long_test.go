//go:build slow

package collector

// long tells that there is time for the largest fleets and the longest hours.
const long = true
