package inventory

// The states of a service that upstream documents.
const (
	StateCreating          = "creating"
	StateDeleting          = "deleting"
	StateFinalizingRestore = "finalizing_restore"
	StateReplayingWAL      = "replaying_wal"
	StateRestarting        = "restarting"
	StateRestoringBackup   = "restoring_backup"
	StateRunning           = "running"
	StateStopped           = "stopped"
	StateUnavailable       = "unavailable"

	stateDeleted = "deleted" // not documented

	StateUnknown = "unknown" // what a state is called that upstream does not tell
)

// States returns the documented states, sorted.
func States() []string {
	return []string{
		StateCreating, StateDeleting, StateFinalizingRestore, StateReplayingWAL, StateRestarting,
		StateRestoringBackup, StateRunning, StateStopped, StateUnavailable,
	}
}

// Leaving tells whether a service of this state is being deleted, or has been: some
// lists still name it for a moment.
func Leaving(state string) bool { return state == StateDeleting || state == stateDeleted }

// HasMetrics tells whether a service of this state can have metrics: not while it is
// being created or deleted.
func HasMetrics(state string) bool { return state != StateCreating && state != StateDeleting }
