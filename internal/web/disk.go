package web

import "github.com/ClickHouse/clickhouse_postgres_exporter/collector"

// diskWarning is the share of a disk in use above which it is marked: there ClickHouse
// Cloud sends a notification, and the alert begins.
const diskWarning = 0.85

// diskSize returns the size of a service's disk in bytes, 0 if it is not known.
func diskSize(s *collector.ServiceStatus) float64 {
	if s.DiskSizeBytes != nil {
		return *s.DiskSizeBytes
	}
	return s.StorageGiB * (1 << 30)
}

// writableBytes returns how much can be written to a service until ClickHouse Cloud lets
// it only read, less than 0 if it does already; false if that is not known.
func writableBytes(s *collector.ServiceStatus) (bytes float64, ok bool) {
	size := diskSize(s)
	if s.DiskUsedRatio == nil || !(size > 0) {
		return 0, false
	}
	reserve := 0.02 * size
	switch {
	case size <= 64e9:
		reserve = 1e9
	case size <= 128e9:
		reserve = 5e9
	case size <= 512e9:
		reserve = 7e9
	}
	return size*(1-*s.DiskUsedRatio) - reserve, true
}

// diskClass returns the style of a service's disk: "bad" if the service can only read,
// "warn" if much of it is in use.
func diskClass(s *collector.ServiceStatus) string {
	if writable, ok := writableBytes(s); ok && writable < 0 {
		return "bad"
	}
	if s.DiskUsedRatio != nil && *s.DiskUsedRatio > diskWarning {
		return "warn"
	}
	return ""
}
