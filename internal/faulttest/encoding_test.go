//go:build linux

package faulttest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestEncodesWhatChanged polls an upstream whose values stay the same: only the health of services
// and the exporter's own metrics are encoded again, and only after a poll and a second.
func TestEncodesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, simulator.Config{Services: 50, RefreshInterval: 24 * time.Hour})
		encoded := func() int64 {
			before := v.encoder.Encoded()
			v.scrape()
			return v.encoder.Encoded() - before
		}
		polls := func() float64 {
			return v.scrape().sum(pollsName)
		}
		if got := encoded(); got != 3 {
			t.Errorf("%d documents of the first page encoded", got)
		}
		if got := encoded(); got != 0 {
			t.Errorf("%d documents encoded of the same page", got)
		}
		for range 10 {
			begun := polls()
			v.pass(2 * time.Minute)
			if got := encoded(); got != 2 {
				t.Errorf("%d documents encoded after a poll that changed nothing", got)
			}
			if polls() == begun {
				t.Error("no poll")
			}
		}
	})
}
