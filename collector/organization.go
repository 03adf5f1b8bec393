package collector

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Defaults of an [Organization].
const (
	DefaultMetricsInterval   = 30 * time.Second
	DefaultInventoryInterval = 60 * time.Second
	DefaultMaxAge            = 5 * time.Minute
	DefaultSettingsInterval  = time.Hour
)

// Organization says what to poll, and how.
type Organization struct {
	// Name is what the configuration calls the organization, may be "". It must be
	// unique, and so must ID.
	Name string
	// ID is the organization's id. If it is "", the one organization that the key
	// can see is meant; none or several are an error of the organization's health.
	ID string

	// API is what the organization's client is made of. Budget must be set. Hooks
	// are the collector's own, since it counts requests for each organization.
	API api.Config

	// Zero stands for the default of each.
	MetricsInterval, InventoryInterval time.Duration
	// MaxAge is for how long metrics are served after they were read; longer for
	// services that the budget allows to be read more rarely only.
	MaxAge           time.Duration
	SettingsInterval time.Duration // between two calls for a service's settings

	EnrichLabels []inventory.EnrichLabel // labels that every series of a service gets
	Rules        []*relabel.Config       // applied after that
	Selection    *inventory.Selection    // services to export, nil for all
	Shard        inventory.Shard         // zero for all
	// Timestamps stamps samples with the moment at which the program first saw
	// their values.
	Timestamps bool

	// What series of the program's own there are of each service, besides upstream's.
	CollectInventory, CollectState, CollectTags, CollectServiceHealth bool
	Tags                                                              []string // keys of those that are collected, nil for all
	// These take requests of their own, on which at most a tenth of the budget is spent.
	// With the settings of each service comes its hostname.
	CollectBackups, CollectQuotas, CollectSettings bool
	// AssumedSettings are exported of services of which upstream tells no such setting,
	// since nobody has set it.
	AssumedSettings []inventory.Setting

	// Names are what the user calls settings, for messages that give advice.
	Names SettingNames

	fixedIntervals bool // for tests, see [schedule.Config]
}

// SettingNames are what the user calls settings of an [Organization], such as the flag
// or the key in a file by which they are set.
type SettingNames struct{ OrganizationID, MaxAge, RateLimit, RateUse string }

// normalized returns the organization with defaults in place.
func (o Organization) normalized() *Organization {
	o.ID = inventory.CanonicalID(o.ID)
	o.MetricsInterval = cmp.Or(o.MetricsInterval, DefaultMetricsInterval)
	o.InventoryInterval = cmp.Or(o.InventoryInterval, DefaultInventoryInterval)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	o.SettingsInterval = cmp.Or(o.SettingsInterval, DefaultSettingsInterval)
	o.Names = SettingNames{
		OrganizationID: cmp.Or(o.Names.OrganizationID, "the organization id"),
		MaxAge:         cmp.Or(o.Names.MaxAge, "the maximum age"),
		RateLimit:      cmp.Or(o.Names.RateLimit, "the rate limit"),
		RateUse:        cmp.Or(o.Names.RateUse, "the part of the rate limit that is used"),
	}
	return &o
}

// check says what is wrong with organizations that are to be polled together.
func check(organizations []*Organization) error {
	if len(organizations) == 0 {
		return errors.New("no organization to poll: configure at least one")
	}
	ids, labels := map[string]bool{}, map[string]bool{}
	for _, o := range organizations {
		label := cmp.Or(o.ID, o.Name)
		switch {
		case o.API.Budget == nil:
			return fmt.Errorf("organization %q has no rate budget: this is a bug", label)
		case o.ID != "" && ids[o.ID]:
			return fmt.Errorf("organization id %s is configured twice: keep one of them", o.ID)
		case label == "" && labels[""]:
			return errors.New("two organizations have neither a name nor an id: give each of them one")
		case labels[label]:
			return fmt.Errorf("two organizations are called %q: give each of them a name of its own", label)
		}
		ids[o.ID], labels[label] = true, true
	}
	return nil
}

// named returns the ids of the services to export, sorted, if the user named ids.
func (o *Organization) named() (ids []string, only bool) {
	ids, only = o.Selection.OnlyIDs()
	return slices.DeleteFunc(ids, func(id string) bool { return !o.Shard.Owns(id) }), only
}

// wantsHostnames tells whether services are asked for theirs, one by one.
func (o *Organization) wantsHostnames() bool {
	return o.CollectSettings || slices.ContainsFunc(o.EnrichLabels, inventory.EnrichLabel.NeedsHostname)
}

// same tells whether polling by o is what polling by other would be.
func (o *Organization) same(other *Organization) bool {
	a, b := *o, *other
	if !sameAPI(&a.API, &b.API) {
		return false
	}
	a.API, b.API = api.Config{}, api.Config{}
	return reflect.DeepEqual(a, b)
}

// sameAPI tells whether clients made of the two would do the same. It looks at
// credentials and budgets as objects, not into them.
func sameAPI(a, b *api.Config) bool {
	if a.Budget != b.Budget || !identical(a.Credentials, b.Credentials) || !identical(a.Transport, b.Transport) {
		return false
	}
	x, y := *a, *b
	for _, cfg := range []*api.Config{&x, &y} {
		cfg.Hooks, cfg.Budget, cfg.Credentials, cfg.Transport = api.Hooks{}, nil, nil, nil
	}
	return reflect.DeepEqual(x, y)
}

// identical tells whether two interfaces hold the same value, without a panic where
// values of that type cannot be compared.
func identical(a, b any) bool {
	return reflect.ValueOf(a).Comparable() && a == b
}
