package lab

import (
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

// TestWhatAFullQueueDroppedIsNamedOnThePage stands for a gateway that was offline
// for longer than its queue holds: its queue takes a day of blocks into the room of
// some hours, and then it comes back. Each block is in the store or its number in a
// gap record, the oldest are the ones that went, and the page says so.
func TestWhatAFullQueueDroppedIsNamedOnThePage(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var known telemetry.Catalogue
	withStore(t, site, func(db *store.Store) {
		var err error
		if known, err = db.Catalogue(t.Context(), Serial); err != nil {
			t.Fatal(err)
		}
	})
	catalogue, err := wire.NewCatalogue(known)
	if err != nil {
		t.Fatal(err)
	}
	q, found, err := queue.Open(disk.OS, site.path("gateway", "queue"), queue.Options{Limit: 1 << 20, SegmentSize: 64 << 10,
		MaxRecord: wire.MaxRecord, Clock: clock.System, EncodeGap: wire.GapPayload, Log: slog.New(slog.DiscardHandler)})
	if err != nil || !found.Clean {
		t.Fatalf("%+v, %v", found, err)
	}
	first := q.Status().History.Next
	dice, builder, packer := rand.New(rand.NewPCG(1, 1)), wire.NewBuilder(catalogue), new(wire.Packer)
	const blocks = 23 * 60
	from := time.Now().Add(-blocks * time.Minute).Truncate(time.Minute)
	for range blocks {
		builder.Open(from)
		for g, group := range known.Groups {
			for s := range group.Series {
				for k := range 20 {
					slot := from.Add(time.Duration(k) * group.Period)
					builder.Add(telemetry.Reading{Group: g, Series: s, Slot: slot, Raw: dice.Int64N(1 << 16)})
				}
			}
		}
		from = from.Add(time.Minute)
		if err := q.Append(queue.History, from, packer.AppendPayload(nil, wire.KindBlock, builder.Seal(from))); err != nil {
			t.Fatal(err)
		}
	}
	dropped, last := q.Status().History.Dropped, q.Status().History.Next-1
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if dropped < blocks/10 || dropped > blocks*9/10 {
		t.Fatalf("%d of %d blocks were dropped: the test is of another case", dropped, blocks)
	}
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	seenOnThePage(t, site.Addresses().Web, "#gaps", "queue full")
	if err := await(t.Context(), "the backlog to be delivered", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(t.Context())
		return err == nil && s.Uplink.Acknowledged > last-first-dropped && waiting(s.Queue) <= 1, err
	}); err != nil {
		t.Fatal(err)
	}

	named := map[uint64]bool{}
	withStore(t, site, func(db *store.Store) {
		gaps, err := db.Gaps(t.Context(), Serial, time.Unix(0, 0), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range gaps {
			if g.Reason != telemetry.QueueFull {
				t.Errorf("another gap: %+v", g)
			}
			for n := g.FromSeq; n <= g.ToSeq; n++ {
				named[n] = true
			}
		}
	})
	db, err := sql.Open("sqlite", "file:"+site.Database()+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for n := first; n <= last; n++ {
		var there int
		if err := db.QueryRow(`SELECT count(*) FROM records WHERE gateway = ? AND lane = 2 AND seq = ?`, Serial, int64(n)).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if oldest := n < first+dropped; there == 1 && named[n] || there+1 > 2 || there == 0 && !named[n] || named[n] != oldest {
			t.Fatalf("record %d (of %d to %d, %d dropped) is stored %d times, named in a gap: %v", n, first, last, dropped, there, named[n])
		}
	}
	t.Logf("%d blocks, of which the oldest %d were dropped and named", blocks, dropped)
}
