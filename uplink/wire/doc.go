// Package wire writes Penstock's wire format: what a gateway publishes on
// gw/<serial>/up and what its queue keeps on disk.
//
// One publish is one protobuf Record (penstock.proto), named for ever by
// gateway, epoch, lane and sequence number. Its body is a block of readings, a
// catalogue, a gap, an event or a result.
//
// A pump gateway on a metered 4G link pays for every byte, and a reading sent
// alone costs about 300: TCP, TLS, MQTT and the acknowledgement weigh more than
// the number. So readings travel in blocks, a reporting period at a time. In a
// block the readings of a series stand together as differences of raw
// integers, on a time grid that is written once, and most differences are 0 or
// a small number. What the integers mean stands in the catalogue, which is a
// record of its own, sent once and named by its hash.
//
// A block in the making is a Builder. A Packer makes the payload of its body, which
// is encoded once: the queue stores it and AppendRecord puts epoch, lane
// and sequence number in front, since parts of a protobuf message may be written
// one after the other.
//
// Bytes are written with protowire and without allocation once warm. Package
// decode reads them back with code generated from the same .proto file; the
// tests hold the two against each other.
package wire
