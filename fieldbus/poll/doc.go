// Package poll reads the pumps of a bus on time, and carries out commands in
// between.
package poll
