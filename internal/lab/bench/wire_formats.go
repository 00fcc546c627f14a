package bench

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"penstock/internal/lab/trace"
	"penstock/internal/telemetry"
)

// wireFormat is how others write readings. Each is written as sparingly as its
// specification lets it, and nothing that could be sent once is counted: units,
// data types and names behind aliases are taken for known.
type wireFormat struct {
	name  string
	write func(batch) []byte // one message
}

var wireFormats = []wireFormat{
	{"json-batch-deflate", func(b batch) []byte { return deflated(jsonBatch(b)) }},
	{"senml-cbor", senML},
	{"sparkplug-b-deflate", sparkplug},
}

// committedTrace is the hour of a plant that benchmarks play.
func committedTrace(ctx context.Context) (*trace.Trace, error) {
	root, err := repository(ctx)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(root, trace.File))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return trace.Read(f)
}

// batch is the readings of one message.
type batch struct {
	catalogue telemetry.Catalogue
	seq       int
	from      time.Time
	readings  []telemetry.Reading
}

// batches cuts a trace into messages of a period each.
func batches(t *trace.Trace, period time.Duration) (all []batch) {
	t.Readings(func(r telemetry.Reading) {
		n := int(r.Slot.Sub(t.Start) / period)
		if n == len(all) {
			all = append(all, batch{catalogue: t.Catalogue, seq: n, from: t.Start.Add(time.Duration(n) * period)})
		}
		all[n].readings = append(all[n].readings, r)
	})
	return all
}

func (b batch) series(r telemetry.Reading) telemetry.Series {
	return b.catalogue.Groups[r.Group].Series[r.Series]
}

// name is the pump and point of a reading, as "1/head".
func (b batch) name(r telemetry.Reading) string {
	s := b.series(r)
	return strings.TrimPrefix(s.Pump, "bus1-") + "/" + s.Point
}

// alias numbers all series through.
func (b batch) alias(r telemetry.Reading) (n uint64) {
	for _, g := range b.catalogue.Groups[:r.Group] {
		n += uint64(len(g.Series))
	}
	return n + uint64(r.Series)
}

// value is a reading in its unit, to its resolution; ok is false where there is
// none.
func (b batch) value(r telemetry.Reading) (v float64, ok bool) {
	if r.Quality != telemetry.Good {
		return 0, false
	}
	v, err := strconv.ParseFloat(b.series(r).Scale.Number(r.Raw), 64)
	return v, err == nil
}

type jsonReading struct {
	TS    int64    `json:"ts"` // Unix milliseconds
	Point string   `json:"point"`
	Value *float64 `json:"value"`
	Unit  string   `json:"unit"`
}

func (b batch) json(r telemetry.Reading) jsonReading {
	j := jsonReading{TS: r.Slot.UnixMilli(), Point: b.name(r), Unit: b.series(r).Unit}
	if v, ok := b.value(r); ok {
		j.Value = &v
	}
	return j
}

// encode is json.Marshal of what cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func jsonBatch(b batch) []byte {
	var all []jsonReading
	for _, r := range b.readings {
		all = append(all, b.json(r))
	}
	return encode(all)
}

func deflated(b []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		panic(err) // not with this level
	}
	_, _ = w.Write(b) // a Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// SenML in CBOR, RFC 8428 chapter 6: an array of maps with numbered labels, a
// base name and base time in the first, times relative to it.
const (
	cborUnsigned, cborNegative, cborText, cborArray, cborMap = 0, 1, 3, 4, 5

	senMLBaseName, senMLBaseTime     = -2, -3
	senMLName, senMLValue, senMLTime = 0, 2, 6
)

func cborHead(dst []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(dst, m|byte(n))
	case n < 1<<8:
		return append(dst, m|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), n)
}

func cborInt(dst []byte, v int64) []byte {
	if v < 0 {
		return cborHead(dst, cborNegative, uint64(-1-v))
	}
	return cborHead(dst, cborUnsigned, uint64(v))
}

func cborString(dst []byte, s string) []byte {
	return append(cborHead(dst, cborText, uint64(len(s))), s...)
}

// cborNumber writes whole numbers as integers, others in single precision.
func cborNumber(dst []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return cborInt(dst, int64(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, 7<<5|26), math.Float32bits(float32(v)))
}

func senML(b batch) []byte {
	var records [][]byte
	for _, r := range b.readings {
		v, ok := b.value(r)
		if !ok {
			continue
		}
		fields, body := uint64(2), []byte(nil)
		if len(records) == 0 {
			fields += 2
			body = cborString(cborInt(body, senMLBaseName), "bus1-")
			body = cborInt(cborInt(body, senMLBaseTime), b.from.Unix())
		}
		body = cborString(cborInt(body, senMLName), b.name(r))
		if at := r.Slot.Sub(b.from); at > 0 {
			fields++
			body = cborNumber(cborInt(body, senMLTime), at.Seconds())
		}
		body = cborNumber(cborInt(body, senMLValue), v)
		records = append(records, append(cborHead(nil, cborMap, fields), body...))
	}
	return append(cborHead(nil, cborArray, uint64(len(records))), bytes.Join(records, nil)...)
}

// sparkplug is a DDATA message of Sparkplug B 3.0 with aliases, in the compressed
// form of its chapter 6.4.5: a payload whose body is the deflated payload.
func sparkplug(b batch) []byte {
	const (
		int32Type, floatType = 3, 9
		// of Payload
		timestamp, metrics, seq, uuid, body = 1, 2, 3, 4, 5
		// of Metric
		name, alias, metricTime, dataType, isNull, intValue, floatValue, stringValue = 1, 2, 3, 4, 7, 10, 12, 15
	)
	uint := func(dst []byte, field protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
	}
	p := uint(nil, timestamp, uint64(b.from.UnixMilli()))
	for _, r := range b.readings {
		m := uint(nil, alias, b.alias(r))
		m = uint(m, metricTime, uint64(r.Slot.UnixMilli()))
		switch v, ok := b.value(r); {
		case !ok:
			m = uint(uint(m, dataType, floatType), isNull, 1)
		case b.series(r).Scale == telemetry.Unit && v >= 0 && v < 1<<31:
			m = uint(uint(m, dataType, int32Type), intValue, uint64(v))
		default:
			m = protowire.AppendTag(uint(m, dataType, floatType), floatValue, protowire.Fixed32Type)
			m = protowire.AppendFixed32(m, math.Float32bits(float32(v)))
		}
		p = protowire.AppendBytes(protowire.AppendTag(p, metrics, protowire.BytesType), m)
	}
	p = uint(p, seq, uint64(b.seq%256))

	algorithm := protowire.AppendString(protowire.AppendTag(nil, name, protowire.BytesType), "algorithm")
	algorithm = protowire.AppendString(protowire.AppendTag(algorithm, stringValue, protowire.BytesType), "DEFLATE")
	out := protowire.AppendBytes(protowire.AppendTag(nil, metrics, protowire.BytesType), algorithm)
	out = protowire.AppendString(protowire.AppendTag(out, uuid, protowire.BytesType), "SPBV1.0_COMPRESSED")
	return protowire.AppendBytes(protowire.AppendTag(out, body, protowire.BytesType), deflated(p))
}
