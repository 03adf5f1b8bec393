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

// Activity says what can be expected of a service's metrics.
type Activity int

// The activities, those whose metrics are worth most first.
const (
	Running   Activity = iota
	Changing           // may be running, is about to run, or in a state not known here
	Stopped            // answers the same until somebody starts it
	NoMetrics          // being created or deleted

	Activities // how many there are
)

// ActivityOf returns what follows from a service's state, "" where it is not known.
func ActivityOf(state string) Activity {
	switch state {
	case StateRunning, "":
		return Running
	case StateStopped:
		return Stopped
	case StateCreating, StateDeleting:
		return NoMetrics
	}
	return Changing
}
