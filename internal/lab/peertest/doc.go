// Package peertest holds our Modbus against other people's. It has tests only.
//
// Our master talks to slaves made of libmodbus and pymodbus, and mbpoll and a
// master made of libmodbus read our virtual pump, each over pseudo-terminals as
// over a cable. What both sides understand of the protocol is thereby not only
// our own opinion of it. The programs in testdata are built and run by the tests;
// the libraries are Debian's (libmodbus-dev, python3-pymodbus, mbpoll).
package peertest
