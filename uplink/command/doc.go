// Package command carries out what comes down, at most once, and never guesses.
//
// A command reaches the gateway at least once: the endpoint sends it again on
// each connection until it has the result. Between telling a pump and reporting
// what the pump did the power can fail. So three things are written down, in this
// order, each durably before the next step:
//
//  1. the command's id, before the pump is told;
//  2. the result, before it is reported;
//  3. that it was reported (with the next write: a result reported twice does no
//     harm).
//
// A start finds ids of step 1 without a result: they were under way when the
// gateway stopped, and are reported as unknown. Whether the pump was told,
// nobody knows; to repeat a start or a stop on a guess can flood a cellar.
//
// A command expires, and a gateway that does not know the time cannot tell
// whether one has: it refuses them all with clock_unknown.
package command
