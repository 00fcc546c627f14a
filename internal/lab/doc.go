// Package lab brings up the whole of Penstock on one machine: virtual pumps on
// virtual serial ports, the backend and gateways, each a process of its own as
// in the field, with real TLS and real disks between them.
//
// It is the newcomer's first minute (`make demo`) and the harness of the
// end-to-end tests: the same code. A Site is the machine room; Judge compares
// what the pumps served with what the store holds, value by value.
package lab
