// Package columns packs columns of integers that change little from one to the
// next: what the readings of a pump are.
//
// Most differences between consecutive raw values are 0 or a small number, and
// how small differs from series to series: a set-point rests, a head jitters by
// three, a counter creeps. A varint spends 8 bits on each of them; their entropy
// is about 3. The gap is closed by an adaptive binary range coder, as in LZMA:
// each difference is spelt as a few yes-or-no decisions, each decision is coded
// with the probability that the past suggests, and the coder spends as many
// bits as the decision was surprising. It learns within a block and forgets
// between blocks, so that each block can be read alone.
//
// docs/protocol.md specifies the code bit by bit, in the words of this package;
// testdata/wire holds vectors. Encoder and decoder share the model, so that they
// cannot disagree.
package columns
