package pumpsim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// logbook writes what was served without holding the line up: the line hands
// entries over, a goroutine writes them.
type logbook struct {
	entries chan Served
	done    sync.WaitGroup
	err     error // of the goroutine; read after done
}

func newLogbook(w io.Writer, on func(Served)) *logbook {
	l := &logbook{entries: make(chan Served, 1024)}
	l.done.Go(func() { l.err = l.write(w, on) })
	return l
}

func (l *logbook) write(w io.Writer, on func(Served)) (err error) {
	if w == nil {
		w = io.Discard
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	for e := range l.entries {
		if err == nil {
			err = enc.Encode(e)
		}
		if len(l.entries) == 0 && err == nil {
			err = out.Flush()
		}
		if on != nil {
			on(e)
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing the served log: %w", err)
	}
	return nil
}

// close waits until everything is written.
func (l *logbook) close() error {
	close(l.entries)
	l.done.Wait()
	return l.err
}
