// Package trace keeps an hour of readings that every measurement of the wire
// format uses.
//
// How many bytes a reading costs depends on how lively it is: a pump at rest
// compresses to nothing. So the measurement has one trace, made by the virtual
// pumps (package physics) and committed, and says how lively that is: its
// delta entropy, the least number of bytes a reading that any code needs which
// knows of each series how often each step from one value to the next occurs,
// and nothing else. Measured on real plants it is 0.39 bytes a reading where the
// demand follows the day, 0.42 for pumps that start and stop, and 0.57 for
// booster sets.
//
// The plant has two pumps on one line, a multistage pump and a circulator. Five
// points of each are read every second, fifteen every ten seconds: 46,800
// readings. In the twentieth minute the multistage pump runs dry, stops with an
// alarm, and starts again.
package trace
