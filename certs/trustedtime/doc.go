// Package trustedtime tells a gateway the time, although its board may have no
// clock that survives a power cut.
//
// A certificate is judged by the time, and the time comes over connections that
// certificates protect. A gateway that lay in a drawer for a year boots in 1970,
// and finds every server's certificate "not yet valid". And whoever could make it
// believe in the year 2099 would have locked it out for good. So there are two
// clocks, and now is the later of them:
//
//   - the corrected clock. Anybody may move it, both ways: NTP, a modem, the
//     system's own clock.
//   - the floor. It only rises, it survives power cuts, and nothing raises it but
//     time that our own backend has signed for a nonce of ours, within the validity
//     of the certificates that it signs with.
//
// A forged NTP answer therefore moves the gateway for as long as it lasts; the next
// true one moves it back. No answer can set it back behind the floor.
//
// Between two answers time is counted by the machine's uptime, which nobody can set
// and which goes on through restarts of the process: signed time that was heard
// once holds for the whole boot. The floor advances a thousandth slower than that,
// so that a fast crystal does not carry it past the truth.
//
// The question for signed time is the one connection that may be made without
// knowing the time (pki.ForTime): all is checked about the server but its dates.
package trustedtime
