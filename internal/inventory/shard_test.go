package inventory

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// shardIDs returns n ids that look like upstream's.
func shardIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		h := sha256.Sum256([]byte(fmt.Sprint(i)))
		ids[i] = fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
	}
	return ids
}

func owners(id string, shards ...Shard) (indices []int) {
	for _, s := range shards {
		if s.Owns(id) {
			indices = append(indices, s.Index)
		}
	}
	return indices
}

func shardsOf(count int) (shards []Shard) {
	for i := range count {
		shards = append(shards, Shard{Index: i, Count: count})
	}
	return shards
}

func TestShardsOwnEachServiceOnce(t *testing.T) {
	ids := append(shardIDs(3000), "", "a", "service 1")
	for count := 1; count <= 12; count++ {
		sizes := make([]int, count)
		for _, id := range ids {
			got := owners(id, shardsOf(count)...)
			if len(got) != 1 {
				t.Fatalf("%d shards: %q belongs to %v, want exactly one", count, id, got)
			}
			sizes[got[0]]++
		}
		even := len(ids) / count
		for i, n := range sizes {
			if n < even*4/5 || n > even*6/5 {
				t.Errorf("%d shards: %d has %d services, an even share is %d", count, i, n, even)
			}
		}
	}
	for _, whole := range []Shard{{}, {Count: 1}} {
		if !whole.Owns("x") {
			t.Errorf("%+v does not own everything", whole)
		}
	}
}

func TestShardsMoveLittleOnResize(t *testing.T) {
	ids := shardIDs(5000)
	for from := 1; from <= 8; from++ {
		for to := from + 1; to <= 9; to++ {
			moved := 0
			for _, id := range ids {
				before, after := owners(id, shardsOf(from)...)[0], owners(id, shardsOf(to)...)[0]
				if before == after {
					continue
				}
				moved++
				if after < from {
					t.Fatalf("%d → %d shards: a service moves between shards that stay, %d → %d", from, to, before, after)
				}
			}
			if even := len(ids) * (to - from) / to; moved < even*9/10 || moved > even*11/10 {
				t.Errorf("%d → %d shards: %d services move, want about %d", from, to, moved, even)
			}
		}
	}
}

// While processes are replaced one by one in the documented order, no service is
// left out, none is exported by more than two, and in the end by exactly one.
func TestShardsDuringRollout(t *testing.T) {
	ids := shardIDs(500)
	const small, large = 3, 5
	check := func(what string, running []Shard, most int) {
		t.Helper()
		for _, id := range ids {
			if got := owners(id, running...); len(got) < 1 || len(got) > most {
				t.Fatalf("%s: %s is exported by %v", what, id, got)
			}
		}
	}

	running := shardsOf(small)
	check("before", running, 1)
	for i := small; i < large; i++ {
		running = append(running, Shard{Index: i, Count: large})
		check("growing: new shards start", running, 2)
	}
	for i := small - 1; i >= 0; i-- { // as a StatefulSet does, the last first
		running[i].Count = large
		check("growing: old shards restart", running, 2)
	}
	check("grown", running, 1)

	for i := small - 1; i >= 0; i-- {
		running[i].Count = small
		check("shrinking: shards that stay restart", running, 2)
	}
	for len(running) > small {
		running = running[:len(running)-1]
		check("shrinking: others stop", running, 2)
	}
	check("shrunk", running, 1)
}

// A new version must not deal the services out anew.
func TestShardsNeverChange(t *testing.T) {
	for id, want := range map[string][3]int{ // of 2, 5 and 16 shards
		"ee2fef9f-b443-8ad0-8c9b-724390cdb826": {0, 0, 12},
		"67b4bc12-8582-45d0-8806-fe9b2e5a54e6": {1, 1, 1},
		"":                                     {1, 1, 13},
		"a":                                    {1, 2, 12},
	} {
		if got := [3]int{shardOf(id, 2), shardOf(id, 5), shardOf(id, 16)}; got != want {
			t.Errorf("%q: shards %v, want %v", id, got, want)
		}
	}
}

func TestShardValidate(t *testing.T) {
	for shard, want := range map[Shard]string{
		{}:                    "",
		{Index: 0, Count: 1}:  "",
		{Index: 2, Count: 3}:  "",
		{Index: 3, Count: 3}:  "the shard index must be from 0 to 2 for a count of 3, but is 3",
		{Index: -1, Count: 3}: "the shard index must be from 0 to 2 for a count of 3, but is -1",
		{Index: 1}:            "the shard index must be from 0 to 0 for a count of 1, but is 1",
		{Count: -1}:           "the shard count must not be negative, but is -1",
	} {
		got := ""
		if err := shard.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", shard, got, want)
		}
	}
}

func TestOrdinalFromHostname(t *testing.T) {
	for hostname, want := range map[string]int{
		"exporter-0":                           0,
		"exporter-3":                           3,
		"clickhouse-postgres-exporter-12":      12,
		"exporter-3.exporter.monitoring.svc":   3,
		"exporter-3.exporter-7.monitoring.svc": 3,
	} {
		if got, err := OrdinalFromHostname(hostname); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", hostname, got, err, want)
		}
	}
	for _, hostname := range []string{"", "exporter", "exporter-", "-3", "exporter-+3", "exporter-03", "exporter--x", "exporter-7d9f", "exporter-6f5d4-24679", "exporter-99999999999999999999", "localhost.exporter-3"} {
		want := "the host name \"" + hostname + "\" does not end in the ordinal of a StatefulSet, such as exporter-3: give the shard index as a number"
		if got, err := OrdinalFromHostname(hostname); err == nil || err.Error() != want {
			t.Errorf("%s: %d, %v, want an error", hostname, got, err)
		}
	}
}
