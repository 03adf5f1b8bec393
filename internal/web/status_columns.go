package web

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// row is a service and its organization.
type row struct {
	organization *collector.OrganizationStatus
	service      *collector.ServiceStatus
}

func (r *row) organizationName() string { return cmp.Or(r.organization.Name, r.organization.ID) }

// column is one by which the table can be sorted.
type column struct {
	Key, Title string
	Numeric    bool
	Sort       string // value of aria-sort, "" if the table is not sorted by it
	Link       string

	compare func(a, b *row) int
	// missing tells whether there is nothing to compare. Such services come last in
	// either order; nil means never.
	missing func(*row) bool
}

func textColumn(key, title string, get func(*collector.ServiceStatus) string) column {
	return column{
		Key: key, Title: title,
		compare: func(a, b *row) int {
			return cmp.Compare(strings.ToLower(get(a.service)), strings.ToLower(get(b.service)))
		},
		missing: func(r *row) bool { return get(r.service) == "" },
	}
}

func numericColumn(key, title string, get func(*collector.ServiceStatus) *float64) column {
	return column{
		Key: key, Title: title, Numeric: true,
		compare: func(a, b *row) int { return cmp.Compare(*get(a.service), *get(b.service)) },
		missing: func(r *row) bool { return get(r.service) == nil },
	}
}

// columns returns the columns of the table of services, in order.
func columns(severalOrganizations bool) []column {
	list := []column{
		textColumn("name", "Service", func(s *collector.ServiceStatus) string { return cmp.Or(s.Name, s.ID) }),
		textColumn("state", "State", func(s *collector.ServiceStatus) string { return s.State }),
		textColumn("region", "Region", func(s *collector.ServiceStatus) string { return s.Region }),
		textColumn("size", "Size", func(s *collector.ServiceStatus) string { return s.Size }),
		textColumn("ha", "HA", func(s *collector.ServiceStatus) string { return s.HAType }),
		textColumn("version", "Version", func(s *collector.ServiceStatus) string { return s.Version }),
		textColumn("role", "Role", role),
		numericColumn("cpu", "CPU", func(s *collector.ServiceStatus) *float64 { return s.CPUUsedRatio }),
		numericColumn("connections", "Connections", func(s *collector.ServiceStatus) *float64 { return s.Connections }),
		numericColumn("disk", "Disk", func(s *collector.ServiceStatus) *float64 { return s.DiskUsedRatio }),
		{
			Key: "age", Title: "Data age", Numeric: true,
			compare: func(a, b *row) int { return cmp.Compare(a.service.DataAgeSeconds, b.service.DataAgeSeconds) },
			missing: func(r *row) bool { return r.service.LastSuccess.IsZero() },
		},
		{
			Key: "series", Title: "Series", Numeric: true,
			compare: func(a, b *row) int { return cmp.Compare(a.service.Series, b.service.Series) },
		},
	}
	if severalOrganizations {
		list = slices.Insert(list, 1, column{Key: "organization", Title: "Organization", compare: func(a, b *row) int {
			return cmp.Compare(a.organizationName(), b.organizationName())
		}})
	}
	return list
}

// role returns whether a service is a primary or a replica, "" for one that is not in the
// list of services.
func role(s *collector.ServiceStatus) string {
	switch {
	case !s.Known:
		return ""
	case s.Primary:
		return "primary"
	}
	return "replica"
}

// rows returns the selected services in order.
func (t *tableQuery) rows(status *collector.Status) []row {
	var rows []row
	for i := range status.Organizations {
		o := &status.Organizations[i]
		for j := range o.Services {
			if r := (row{o, &o.Services[j]}); t.matches(&r) {
				rows = append(rows, r)
			}
		}
	}
	list := columns(true)
	by := list[0]
	for _, c := range list {
		if c.Key == t.sort {
			by = c
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		if by.missing != nil {
			switch x, y := by.missing(&a), by.missing(&b); {
			case x && y:
				return compareIdentity(&a, &b)
			case x:
				return 1
			case y:
				return -1
			}
		}
		c := by.compare(&a, &b)
		if t.descending {
			c = -c
		}
		return cmp.Or(c, compareIdentity(&a, &b))
	})
	return rows
}

// compareIdentity orders services that the column does not.
func compareIdentity(a, b *row) int {
	return cmp.Or(
		cmp.Compare(strings.ToLower(a.service.Name), strings.ToLower(b.service.Name)),
		cmp.Compare(a.service.ID, b.service.ID),
		cmp.Compare(a.organization.ID, b.organization.ID),
	)
}
