// Package queue keeps what the gateway has to say until the endpoint has it:
// a durable queue of records in two lanes, as an append-only log of segments.
package queue
