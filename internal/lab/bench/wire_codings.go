package bench

import (
	"fmt"
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"

	"penstock/internal/lab/trace"
	wireformat "penstock/uplink/wire"
	"penstock/uplink/wire/columns"
	"penstock/uplink/wire/decode"
	"penstock/uplink/wire/wirepb"
)

// codings are the bodies of the blocks of a trace, by how their columns are written:
// "packed" as a gateway does, "plain" as anybody may, and "deflated", which is plain
// columns with a general compressor over each block.
func codings(hour *trace.Trace, period time.Duration) (bytes map[string]int, err error) {
	catalogue, err := wireformat.NewCatalogue(hour.Catalogue)
	if err != nil {
		return nil, err
	}
	bytes = map[string]int{}
	builder := wireformat.NewBuilder(catalogue)
	for _, m := range batches(hour, period) {
		builder.Open(m.from)
		for _, reading := range m.readings {
			builder.Add(reading)
		}
		packed := builder.Seal(m.from.Add(period))
		plain, err := unpacked(packed)
		if err != nil {
			return nil, err
		}
		bytes["packed"] += len(packed)
		bytes["plain"] += len(plain)
		bytes["deflated"] += len(deflated(plain))
	}
	return bytes, nil
}

// unpacked is the same block with plain columns.
func unpacked(body []byte) ([]byte, error) {
	var b wirepb.Block
	if err := proto.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	var d columns.Decoder
	d.Start(b.Columns)
	column := func(n uint32) []int64 {
		values := make([]int64, n)
		d.Column(values)
		for i := len(values) - 1; i > 0; i-- {
			values[i] -= values[i-1]
		}
		return values
	}
	for _, r := range b.Runs {
		for range r.Series {
			r.Deltas = append(r.Deltas, column(r.Slots)...)
		}
		if n := r.ExactRows; n > 0 {
			r.Exact = &wirepb.Exact{Series: column(n), SeriesCount: column(n), Slot: column(n), OffMs: column(n)}
		}
		r.Series, r.ExactRows = 0, 0
	}
	b.Columns = nil
	plain, err := proto.Marshal(&b)
	if err != nil {
		return nil, err
	}
	// What says something else would be no measure.
	one, err := decode.ParseBlock(body)
	if err != nil {
		return nil, err
	}
	other, err := decode.ParseBlock(plain)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(one, other) {
		return nil, fmt.Errorf("a block with plain columns is read as %v, packed as %v", other, one)
	}
	return plain, nil
}
