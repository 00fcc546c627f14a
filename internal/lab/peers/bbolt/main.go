// Command bbolt does with go.etcd.io/bbolt what the benchmark asks of a durable
// queue; see internal/lab/bench/queuesubject for the jobs and the answer. It is
// used as its documentation advises for a queue: one bucket, big-endian
// sequence numbers as keys, written in order, one transaction a group.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

var bucket = []byte("queue")

func main() {
	job := flag.String("job", "append", "append, drain, or read: drain that forgets nothing")
	dir := flag.String("dir", "", "folder of the database")
	records := flag.Int("records", 100_000, "how many records")
	size := flag.Int("size", 300, "bytes of a record")
	group := flag.Int("group", 50, "records of a transaction")
	flag.Parse()
	db, err := bolt.Open(filepath.Join(*dir, "queue.db"), 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	count := *records
	switch *job {
	case "append":
		err = fill(db, *records, *size, *group)
	case "drain":
		count, err = drain(db)
	case "read":
		count, err = read(db)
	default:
		err = fmt.Errorf("there is no job %q", *job)
	}
	took := time.Since(began)
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("done", count, took.Microseconds(), 0)
}

func fill(db *bolt.DB, records, size, group int) error {
	content := make([]byte, group*size)
	for i := range content {
		content[i] = byte(i * 7919 >> 3)
	}
	for n := 0; n < records; {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			b.FillPercent = 0.9 // keys come in order
			for k := 0; k < group && n < records; k++ {
				p := content[k*size : (k+1)*size]
				copy(p, strconv.Itoa(n))
				n++
				if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(n)), p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads all records in order, and keeps them.
func read(db *bolt.DB) (records int, err error) {
	buf := make([]byte, 0, 4096)
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, v []byte) error {
			buf = append(buf[:0], v...)
			records++
			return nil
		})
	})
	return records, err
}

// drain reads all records in order and forgets them: as our queue does, when 4 MB
// can be freed behind the reader.
func drain(db *bolt.DB) (records int, err error) {
	const reclaim = 4 << 20
	buf := make([]byte, 0, 4096)
	for more := true; more; {
		read := 0
		err := db.View(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucket).Cursor()
			bytes := 0
			for k, v := c.First(); k != nil && bytes < reclaim; k, v = c.Next() {
				buf = append(buf[:0], v...) // it is to be sent after the transaction
				bytes += len(k) + len(v)
				read++
			}
			return nil
		})
		if err != nil {
			return records, err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucket).Cursor()
			for n := 0; n < read; n++ {
				if k, _ := c.First(); k == nil {
					break
				}
				if err := c.Delete(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return records, err
		}
		records += read
		more = read > 0
	}
	return records, nil
}
