package queue

import (
	"bytes"
	"testing"
)

// FuzzSegment reads anything as a segment: it ends, and gives records in order of
// their numbers, whose checksums are right.
func FuzzSegment(f *testing.F) {
	good := appendOpening(nil, History, [8]byte{1}, 5, 1000, 4)
	for seq := uint64(5); seq < 8; seq++ {
		good = appendRecord(good, History, entry{epoch: [8]byte{1}, seq: seq, upTo: 2000, payload: bytes.Repeat([]byte{byte(seq)}, 40)})
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Repeat([]byte{0}, 100), good...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScanner(bytes.NewReader(b), History, 5, 1<<40, int64(len(b)))
		last, records := uint64(4), uint64(0)
		for {
			e, err := s.next()
			if err != nil {
				break
			}
			if e.flags&flagOpen != 0 {
				continue
			}
			if e.seq <= last {
				t.Fatalf("%d after %d", e.seq, last)
			}
			last = e.seq
			records++
		}
		found, err := scanAll(newScanner(bytes.NewReader(b), History, 5, 1<<40, int64(len(b))), 0)
		if err != nil || found.records != records || found.good > int64(len(b)) {
			t.Fatalf("%+v and %d records, %v", found, records, err)
		}
	})
}

// FuzzHead: what is taken for a head is written again as it was.
func FuzzHead(f *testing.F) {
	f.Add(head{generation: 3, clean: true, epoch: [8]byte{9}, lanes: [2]headLane{{cursor: 1}, {next: 7}}}.encode())
	f.Add(make([]byte, headLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := decodeHead(b); ok && h.clean && !bytes.Equal(h.encode()[8:16], b[8:16]) {
			t.Fatalf("%+v", h)
		}
	})
}

// FuzzNames: a name that is taken for one of ours is one that we would give.
func FuzzNames(f *testing.F) {
	f.Add(segmentName(History, 17, 3))
	f.Add(lostName(span{lane: Urgent, from: 2, to: 9, since: -5, until: 12}))
	f.Fuzz(func(t *testing.T, name string) {
		if lane, base, previous, err := parseSegmentName(name); err == nil {
			if lane2, base2, previous2, err := parseSegmentName(segmentName(lane, base, previous)); err != nil || lane2 != lane || base2 != base || previous2 != previous {
				t.Fatalf("%q", name)
			}
		}
		if s, err := parseLostName(name); err == nil {
			if again, err := parseLostName(lostName(s)); err != nil || again != s {
				t.Fatalf("%q", name)
			}
		}
	})
}
