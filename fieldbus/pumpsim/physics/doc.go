// Package physics is a centrifugal pump in a pipe system, stepped by time.
package physics

// State is what a pump does at one moment.
type State struct{}

// Cause is the cause of an alarm.
type Cause uint8
