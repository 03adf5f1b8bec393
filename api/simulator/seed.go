package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// What the fleet that the seed defines is made of.
const (
	// The first services have names that are easy to remember, in regions to match. There are none
	// where read replicas go.
	fleetNames = "orders-eu=eu-west-2,billing=us-east-1,my postgres=us-west-2,oltp=eu-central-1,=," +
		"inventory=us-east-1,users=europe-west2,web shop=us-east-2,payments=us-east-1,=,catalog-us=us-west-2,sessions=ap-southeast-2"
	fleetSubjects = "orders,billing,users,inventory,payments,catalog,search,events,reports,ledger,auth,shipping,pricing,reviews,loyalty,tickets"
	// An empty qualifier is replaced with the continent.
	fleetQualifiers = ",,,staging,prod,dev,core,v2"
	fleetRegions    = "us-east-1,eu-west-2,us-west-2,eu-central-1,us-east-2,ap-southeast-2,eu-west-1,ap-northeast-1"
	fleetSizes      = "r6gd.medium,r6gd.large,m6gd.large,r8gd.large,c6gd.xlarge,r6gd.medium,r8gd.xlarge,m8gd.2xlarge,i8g.large,r8gd.medium,r8gd.2xlarge,i7ie.xlarge"
	// One in a dozen is at another provider.
	fleetRegionsGCP = "us-central1,europe-west4,europe-west2"
	fleetSizesGCP   = "c4a-highmem-4,c4a-standard-8,c4-highmem-4,z3-highlssd-8"
	fleetTeams      = "checkout,platform,growth,data,identity"
)

// member returns service number index of the fleet that the seed defines, whatever was created
// or deleted meanwhile. In every five, the first three have settings.
func (c *Config) member(index int) *service {
	key := seeded.Hash(c.Seed, "service "+strconv.Itoa(index))
	v := &service{
		id: seeded.UUID(key), index: index, primary: true, version: "18", haType: defaultHAType,
		provider: aws,
		region:   seeded.Choose(fleetRegions, seeded.Hash(key, "region")),
		size:     seeded.Choose(fleetSizes, seeded.Hash(key, "size")),
		Server:   metrics.Server{Key: key},
	}
	if index%12 == 6 {
		v.provider = gcp
		v.region, v.size = seeded.Choose(fleetRegionsGCP, seeded.Hash(key, "region")), seeded.Choose(fleetSizesGCP, seeded.Hash(key, "size"))
	}
	if first := strings.Split(fleetNames, ","); index < len(first) {
		v.name, v.region, _ = strings.Cut(first[index], "=")
	} else {
		h := seeded.Hash(key, "name")
		qualifier := seeded.Choose(fleetQualifiers, h>>20)
		if qualifier == "" {
			qualifier, _, _ = strings.Cut(v.region, "-")
		}
		v.name = fmt.Sprintf("%s-%s-%d", seeded.Choose(fleetSubjects, h), qualifier, index)
	}
	if seeded.Hash(key, "version")%4 == 0 {
		v.version = "17"
	}
	switch seeded.Hash(key, "ha") % 4 {
	case 0:
		v.haType = "async"
	case 1:
		v.haType = "sync"
	}
	switch seeded.Hash(key, "tags") % 4 {
	case 0:
	case 1:
		v.tags = []Tag{{Key: "Environment", Value: "production"}}
	case 2:
		v.tags = []Tag{{Key: "Environment", Value: "staging"}, {Key: "team", Value: seeded.Choose(fleetTeams, seeded.Hash(key, "team"))}}
	case 3:
		v.tags = []Tag{{Key: "Environment", Value: "production"}, {Key: "team", Value: seeded.Choose(fleetTeams, seeded.Hash(key, "team"))}, {Key: "pii"}}
	}
	v.CreatedAt = c.Epoch.Add(-24*time.Hour - time.Duration(seeded.Unit(seeded.Hash(key, "created"))*400*24*float64(time.Hour))).Truncate(time.Second)
	if index%5 == 4 { // a read replica of the one before, which is never a replica itself
		parent := c.member(index - 1)
		v.name, v.version = parent.name+"-replica", parent.version
		v.provider, v.region, v.size = parent.provider, parent.region, parent.size
		v.haType, v.primary = defaultHAType, false
		v.CreatedAt = parent.CreatedAt.Add(time.Hour)
		v.parent = parent.id
	} else {
		v.firstBackup = v.CreatedAt.Add(10 * time.Minute)
	}
	v.Boot = v.CreatedAt.Add(time.Duration(seeded.Unit(seeded.Hash(key, "boot")) * float64(c.Epoch.Sub(v.CreatedAt)))).Truncate(time.Second)

	state, share := stateRunning, seeded.Unit(seeded.Hash(key, "state"))
	for _, name := range slices.Sorted(maps.Keys(c.States)) {
		if share -= c.States[name]; share < 0 {
			state = name
			break
		}
	}
	v.phases = []phase{{v.CreatedAt, state}}
	if c.FillDisks && v.primary {
		switch index % 12 {
		case 2:
			v.Filling = metrics.ToReadOnly
		case 6:
			v.Filling = metrics.ToLarger
		}
	}
	v.complete()
	if index%5 < 3 {
		connections := min(100*v.Machine.Cores, 1000)
		v.pgConfig["max_connections"] = strconv.Itoa(connections)
		if v.Key%2 == 0 { // the API returns numbers and strings
			v.pgConfig["max_connections"] = connections
		}
		v.bouncerConfig["default_pool_size"] = "16"
	}
	return v
}
