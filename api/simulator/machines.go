package simulator

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
)

// machineOf returns the machine of a size such as r8gd.large or c4a-highmem-8, false for one that
// is not offered.
func machineOf(size string) (metrics.Machine, bool) {
	if providerOf(size) == gcp {
		return machineOfGCP(size)
	}
	var (
		memoryGiB, storageGiB int // per core
		steps                 string
	)
	family, step, _ := strings.Cut(size, ".")
	switch family {
	case "c6gd":
		memoryGiB, storageGiB, steps = 2, 59, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge"
	case "m6gd", "m6id", "m8gd":
		memoryGiB, storageGiB, steps = 4, 59, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge"
	case "r6gd":
		memoryGiB, storageGiB, steps = 8, 59, "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"
	case "r6id":
		memoryGiB, storageGiB, steps = 8, 59, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"
	case "r8gd":
		memoryGiB, storageGiB, steps = 8, 59, "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"
	case "i7i":
		memoryGiB, storageGiB, steps = 8, 234, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"
	case "i8g":
		memoryGiB, storageGiB, steps = 8, 234, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge 24xlarge"
	case "i7ie", "i8ge":
		memoryGiB, storageGiB, steps = 8, 625, "large xlarge 2xlarge 3xlarge 6xlarge 12xlarge 18xlarge 24xlarge"
	}
	if !slices.Contains(strings.Fields(steps), step) {
		return metrics.Machine{}, false
	}
	var cores int
	switch step {
	case "medium":
		cores = 1
	case "large":
		cores = 2
	case "xlarge":
		cores = 4
	default:
		n, err := strconv.Atoi(strings.TrimSuffix(step, "xlarge"))
		if err != nil {
			return metrics.Machine{}, false
		}
		cores = 4 * n
	}
	return metrics.Machine{Cores: cores, MemoryGiB: cores * memoryGiB, StorageGiB: cores * storageGiB}, true
}

// machineOfGCP returns the machine of a size such as c4a-highmem-8. The memory and disk of these
// are not documented: the figures are this package's own.
func machineOfGCP(size string) (metrics.Machine, bool) {
	last := strings.LastIndexByte(size, '-')
	family, step := size[:max(last, 0)], size[last+1:]
	memoryGiB, storageGiB, steps := 4, 59, ""
	switch family {
	case "c4a-highmem", "c4a-standard":
		steps = "4 8 16 32 48 64 72"
	case "c4-highmem", "c4-standard":
		steps = "4 8 16 24 32 48 96 144 192 288"
	case "c4d-highmem", "c4d-standard":
		steps = "8 16 32 48 64 96 192 384"
	case "z3-highlssd":
		storageGiB, steps = 234, "8 16 22 32 44 88"
	case "z3-standardlssd":
		storageGiB, steps = 117, "14 22 44 88 176"
	}
	if strings.HasSuffix(family, "-highmem") || storageGiB > 59 {
		memoryGiB = 8
	}
	cores, err := strconv.Atoi(step)
	if err != nil || !slices.Contains(strings.Fields(steps), step) {
		return metrics.Machine{}, false
	}
	return metrics.Machine{Cores: cores, MemoryGiB: cores * memoryGiB, StorageGiB: cores * storageGiB}, true
}

// providerOf returns the provider of a size: those of aws have a dot.
func providerOf(size string) string {
	if strings.Contains(size, ".") {
		return aws
	}
	return gcp
}
