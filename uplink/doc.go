// Package uplink carries what the queue holds to the endpoint and never says
// that something arrived when it did not.
//
// # The way to the endpoint
//
// A gateway knows one address: that of the auth service. There it asks, with its
// certificate, which endpoint to use (POST /v1/assignment), and keeps the answer
// on disk, so that after a reboot it goes straight to its endpoint even if the
// auth service is down. It asks again when the endpoint cannot be reached for a
// while, or refuses it.
//
// # The session
//
// A Session publishes the queue's records over MQTT 3.1.1 and mutual TLS, QoS 1,
// in order within each lane, a few in flight, the urgent lane first. The endpoint
// sends PUBACK after its store has committed the record, so PUBACK means stored,
// and only a contiguous prefix of PUBACKs moves the queue's cursor. Whatever was
// not acknowledged when a connection ends is sent again on the next.
//
// # What is subtle
//
// The client library is paho.mqtt.golang. With its defaults it reports success
// for publishes that nobody acknowledged: on reconnect the token of a lost
// message completes without an error. The only truthful combination is
// CleanSession with neither AutoReconnect nor ConnectRetry, and a new client
// object for each connection; that is what this package uses. Tokens are never
// waited for without a bound. Its keepalive does not notice a peer that takes
// bytes and answers pings but never acknowledges, so a session that makes no
// progress is thrown away (see Session.stalled).
//
// A black hole, the usual death of a 4G link, is noticed by TCP_USER_TIMEOUT
// when bytes are under way and by MQTT's own ping when none are.
package uplink
