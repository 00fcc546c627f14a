// Package trace keeps an hour of readings that every measurement of the wire
// format uses.
//
// How many bytes a reading costs depends on how lively it is: a pump at rest
// compresses to nothing. So the measurement has one trace, made by the virtual
// pumps (package physics) and committed, and says how lively that is: its
// delta entropy, the least number of bytes a reading that any code needs which
// knows of each series how often each step from one value to the next occurs,
// and nothing else. The trace was required to be lively: at least 0.40 bytes a
// reading. The twenty points of each pump were chosen to that end, with more slow
// points that move than most sites read; a first choice from the same pumps came
// to 0.39. It is a demanding hour, not an average one.
//
// The plant has two pumps on one line, a multistage pump and a circulator. Five
// points of each are read every second, fifteen every ten seconds: 46,800
// readings. In the twentieth minute the multistage pump runs dry, stops with an
// alarm, and starts again.
package trace
