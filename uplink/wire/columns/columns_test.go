package columns

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func pack(cols [][]int64) []byte {
	var e Encoder
	e.Start([]byte("before"))
	for _, c := range cols {
		e.Column(c)
	}
	return e.Finish()[len("before"):]
}

func unpack(packed []byte, like [][]int64) (cols [][]int64, unread int) {
	var d Decoder
	d.Start(packed)
	for _, c := range like {
		values := make([]int64, len(c))
		d.Column(values)
		cols = append(cols, values)
	}
	return cols, d.Unread()
}

func check(t *testing.T, cols [][]int64) []byte {
	t.Helper()
	packed := pack(cols)
	got, unread := unpack(packed, cols)
	if unread != 0 {
		t.Fatalf("%d bytes left over", unread)
	}
	for i := range cols {
		if !slices.Equal(cols[i], got[i]) {
			t.Fatalf("column %d of %v:\nwant %v\ngot  %v", i, len(cols), cols[i], got[i])
		}
	}
	return packed
}

func TestEveryIntegerComesBack(t *testing.T) {
	edge := []int64{0, 1, -1, 2, -2, 127, -128, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, math.MinInt64 + 1}
	var all []int64
	for _, a := range edge {
		for _, b := range edge {
			all = append(all, a, b)
			check(t, [][]int64{{a}, {b, a}, {a, a, b}})
		}
	}
	check(t, [][]int64{all, all})
	check(t, nil)
	check(t, [][]int64{{}, {5}, {}})
}

func TestWhateverMovesComesBack(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		cols := make([][]int64, r.IntN(20))
		for i := range cols {
			col := make([]int64, r.IntN(100))
			v, step := r.Int64N(100000), int64(1)<<r.IntN(62)
			for j := range col {
				if r.IntN(3) == 0 {
					v += r.Int64N(2*step) - step
				}
				col[j] = v
			}
			cols[i] = col
		}
		check(t, cols)
	}
}

// TestWhatRestsCostsNothing: a status word that does not change is most of what
// a pump says.
func TestWhatRestsCostsNothing(t *testing.T) {
	cols := make([][]int64, 40)
	for i := range cols {
		cols[i] = slices.Repeat([]int64{int64(i % 3)}, 60)
	}
	if n := len(check(t, cols)); n > 40 {
		t.Errorf("%d bytes for 40 columns of 60 that rest", n)
	}
}

// TestNoiseCostsItsEntropy: white noise of ±4 on a level is one of 9 values, 3.17
// bits, when nothing is known of the level.
func TestNoiseCostsItsEntropy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	cols := make([][]int64, 20)
	for i := range cols {
		cols[i] = make([]int64, 60)
		for j := range cols[i] {
			cols[i][j] = 3000 + r.Int64N(9) - 4
		}
	}
	bitsEach := float64(8*len(check(t, cols))) / (20 * 60)
	if bitsEach > 4.3 {
		t.Errorf("%.2f bits each", bitsEach)
	}
}

func TestAnyInputGivesSomeValues(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		packed := make([]byte, r.IntN(200))
		for i := range packed {
			packed[i] = byte(r.Uint32())
		}
		var d Decoder
		d.Start(packed)
		for range 10 {
			d.Column(make([]int64, 100))
		}
	}
}

func FuzzColumns(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(5))
	f.Add(pack([][]int64{{1, 2, 3, 400, 500}, {7, 7, 7, 7, 7}}), uint8(5))
	f.Fuzz(func(t *testing.T, packed []byte, n uint8) {
		cols, _ := unpack(packed, [][]int64{make([]int64, n), make([]int64, n)})
		check(t, cols)
	})
}

func BenchmarkPack(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	col := make([]int64, 780)
	for j := range col {
		col[j] = 3000 + r.Int64N(9) - 4
	}
	var e Encoder
	var out []byte
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Start(out[:0])
			e.Column(col)
			out = e.Finish()
		}
	})
	b.Run("unpack", func(b *testing.B) {
		var d Decoder
		b.ReportAllocs()
		for b.Loop() {
			d.Start(out)
			d.Column(col)
		}
	})
}
