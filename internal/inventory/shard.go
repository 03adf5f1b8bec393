package inventory

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
)

// Shard is the part of the services that this process exports, for fleets that
// outgrow one process. The zero value is everything.
//
// A service belongs to exactly one of Count shards, by a hash of its id alone:
// processes with the same Count agree without talking to each other. The hash is a
// consistent one (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash
// Algorithm"): from n to m > n shards a service stays where it was or moves to one of
// the new shards, and back again the same way. So no service is ever exported by none
// if, growing, the new shards are started before the old ones get the new count, and,
// shrinking, those that stay get the new count before the others are stopped. Services
// that move are exported twice until then.
type Shard struct {
	Index int // 0 … Count-1
	Count int // 0 is the same as 1
}

// Validate returns an error, with the remedy, for an index that is not in the count.
func (s Shard) Validate() error {
	switch {
	case s.Count < 0:
		return fmt.Errorf("the shard count must not be negative, but is %d", s.Count)
	case s.Index < 0 || s.Index >= max(s.Count, 1):
		return fmt.Errorf("the shard index must be from 0 to %d for a count of %d, but is %d", max(s.Count, 1)-1, max(s.Count, 1), s.Index)
	}
	return nil
}

// Owns reports whether the service of this id belongs to the shard.
func (s Shard) Owns(id string) bool {
	return s.Count <= 1 || shardOf(id, s.Count) == s.Index
}

// shardOf returns which of count shards a service belongs to. The result is part
// of the contract between versions of the program: never change it.
func shardOf(id string, count int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	key := h.Sum64()
	var bucket, next int64 = -1, 0
	for next < int64(count) {
		bucket = next
		key = key*2862933555777941757 + 1
		next = int64(float64(bucket+1) * (float64(1<<31) / float64(key>>33+1)))
	}
	return int(bucket)
}

// OrdinalFromHostname returns the number that ends the name of a pod of a
// Kubernetes StatefulSet, such as 3 for "exporter-3" or for
// "exporter-3.exporter.monitoring.svc".
func OrdinalFromHostname(hostname string) (int, error) {
	// No ordinal has a sign or leading zeros. The random end of another pod's name has
	// five characters and might be all digits; four are far above any sensible number
	// of shards.
	ordinal := regexp.MustCompile(`^[^.]+-(0|[1-9][0-9]{0,3})(\.|$)`).FindStringSubmatch(hostname)
	if ordinal == nil {
		return 0, fmt.Errorf("the host name %q does not end in the ordinal of a StatefulSet, such as exporter-3: give the shard index as a number", hostname)
	}
	return strconv.Atoi(ordinal[1])
}
