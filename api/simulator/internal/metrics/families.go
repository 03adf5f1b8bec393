package metrics

// SeriesPerService is how many series a running service has; see Families. A service that is
// not running has one, PostgresServiceInfo, whose labels say why.
const SeriesPerService = 36

// Family is one metric of the API. Its series differ in Label, if it has one, whose values are
// Values, or the names of the server's databases.
type Family struct {
	Name, Type, Help string
	Label            string
	Values           []string
}

// Series returns how many series of the family a running service has.
func (f *Family) Series() int {
	switch f.Label {
	case "":
		return 1
	case "database":
		return len(Profile{}.Databases)
	default:
		return len(f.Values)
	}
}

// Families returns the families in the order of the page, which is also the order of
// (*Server).Values.
func Families() []Family {
	return []Family{
		{Name: "PostgresServiceInfo", Type: "gauge", Help: "Information about PostgreSQL service, including status and version."},
		{Name: "PostgresServer_ActiveConnections", Type: "gauge", Help: "Number of active connections by state.", Label: "state", Values: []string{"active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled"}},
		{Name: "PostgresServer_CPUCores", Type: "gauge", Help: "CPU cores that the server has."},
		{Name: "PostgresServer_CPUSeconds_Total", Type: "counter", Help: "Time that all cores together have spent in each mode, in seconds.", Label: "mode", Values: []string{"user", "system", "iowait", "softirq", "steal", "irq", "nice", "idle"}},
		{Name: "PostgresServer_CacheHitRatio", Type: "gauge", Help: "Buffer cache hit ratio: blocks served from cache vs. total blocks accessed (%)."},
		{Name: "PostgresServer_DatabaseSizeBytes", Type: "gauge", Help: "Size of each database in bytes.", Label: "database"},
		{Name: "PostgresServer_Deadlocks_Total", Type: "counter", Help: "Deadlocks detected."},
		{Name: "PostgresServer_DiskReads_Total", Type: "counter", Help: "Read operations that the disk has completed."},
		{Name: "PostgresServer_DiskWrites_Total", Type: "counter", Help: "Write operations that the disk has completed."},
		{Name: "PostgresServer_FilesystemUsedPercent", Type: "gauge", Help: "Share of the storage in use (%)."},
		{Name: "PostgresServer_MemoryCachePercent", Type: "gauge", Help: "Share of the memory that caches files (%)."},
		{Name: "PostgresServer_MemoryLimitBytes", Type: "gauge", Help: "Memory that the server has, in bytes."},
		{Name: "PostgresServer_MemoryUsedPercent", Type: "gauge", Help: "Share of the memory in use (%)."},
		{Name: "PostgresServer_NetworkReceiveBytes_Total", Type: "counter", Help: "Bytes received over the network."},
		{Name: "PostgresServer_NetworkTransmitBytes_Total", Type: "counter", Help: "Bytes sent over the network."},
		{Name: "PostgresServer_StorageLimitBytes", Type: "gauge", Help: "Storage that the server has, in bytes."},
		{Name: "PostgresServer_TransactionsCommitted_Total", Type: "counter", Help: "Transactions committed."},
		{Name: "PostgresServer_TransactionsRolledBack_Total", Type: "counter", Help: "Transactions rolled back."},
		{Name: "PostgresServer_TuplesDeleted_Total", Type: "counter", Help: "Rows deleted."},
		{Name: "PostgresServer_TuplesFetched_Total", Type: "counter", Help: "Rows fetched."},
		{Name: "PostgresServer_TuplesInserted_Total", Type: "counter", Help: "Rows inserted."},
		{Name: "PostgresServer_TuplesUpdated_Total", Type: "counter", Help: "Rows updated."},
	}
}

// FirstValue returns the index of the family's first value in what (*Server).Values writes.
func FirstValue(family string) int {
	next := 0
	for _, f := range Families() {
		if f.Name == family {
			break
		}
		next += f.Series()
	}
	return next
}
