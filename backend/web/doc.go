// Package web is the web client: pages over HTTPS on which people see their
// gateways and pumps, live, and the small JSON interface that the pages use.
//
// The pages are plain HTML that the server fills, so that they show values
// before a line of script has run; the scripts then keep them current. There is
// no framework and no build: what is in assets is what the browser gets. The
// Content-Security-Policy allows nothing but the server's own files, and no
// script or style within a page.
//
// # JSON interface
//
// Every request needs the session's cookie; without one the answer is a problem
// (RFC 9457) with status 401. Times are RFC 3339, but for columns of samples,
// which are Unix milliseconds.
//
//	GET /api/gateways
//	GET /api/gateways/{serial}
//	GET /api/gateways/{serial}/range?pump=ID&point=NAME&from=TIME&to=TIME
//	GET /api/gateways/{serial}/live
//
// The first two answer what the pages show: state, last reading, gaps, and for
// one gateway each pump with its values. A value is a text as people read it, a
// number where there is one, its quality and its time.
//
// range answers the samples of one point in columns (t, v, q), oldest first: v
// is null where there was no value, q is the quality (0 good, 1 not available,
// 2 stale, 3 missing, 5 doubtful). With them come the gap records of that time, the texts
// of codes, and the period at which the point is read, by which a reader can
// tell a hole from a slow point. from and to may be a day apart at most.
//
// live is a stream of server-sent events. The first, "values", carries every
// value; later ones those that changed, and between which times readings were
// stored (from, to), so that a chart knows what to ask for anew: readings that
// were held up arrive late, oldest first. "reload" says that the gateway has
// other pumps or points than before, "signed-out" that the session has ended. A
// comment comes every 15 seconds. A reader that is too slow is cut off; it
// connects again and starts with every value.
package web
