package gateway

import (
	"testing"

	"penstock/internal/config"
	"penstock/internal/disk/faultdisk"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

// TestTheQueueTakesTheLeastLimitOfTheConfiguration: what passes the configuration
// must not stop the gateway afterwards, and the bound is no higher than it need be.
func TestTheQueueTakesTheLeastLimitOfTheConfiguration(t *testing.T) {
	open := func(limit int64) error {
		q, _, err := queue.Open(faultdisk.New(), "/queue", queue.Options{Limit: limit, MaxRecord: wire.MaxRecord, EncodeGap: wire.GapPayload})
		if err == nil {
			err = q.Close()
		}
		return err
	}
	if err := open(config.LeastQueue); err != nil {
		t.Error(err)
	}
	if err := open(config.LeastQueue - 1); err == nil {
		t.Error("the queue takes less than the configuration allows")
	}
}
