//go:build race

package collector

// raceEnabled tells that everything takes ten times as long.
const raceEnabled = true
