// Command subject is Penstock's Modbus master as the benchmarks run it: in a
// process of its own, like its peers in internal/lab/peers, and cross-compiled
// for an emulated ARM machine. What it is asked for is written in
// internal/lab/peers/client.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/internal/clock"
)

func main() {
	port := flag.String("port", "", "serial port, 8E1")
	baud := flag.Int("baud", 19200, "speed")
	regs := flag.Int("regs", 2, "registers in a read")
	count := flag.Int("count", 61, "reads")
	list := flag.String("list", "", "file of the reads to make, a line each: device start count")
	timeout := flag.Duration("timeout", time.Second, "of a read from a device whose pace is unknown")
	attempts := flag.Int("attempts", 1, "how often a request is sent")
	verbose := flag.Bool("log", false, "write a line for each read")
	raw := flag.Bool("raw", false, "send frames through the transporter alone")
	flag.Parse()
	reads := slices.Repeat([]modbus.Request{{Address: 1, Start: 200, Count: *regs}}, *count)
	if *list != "" {
		var err error
		if reads, err = load(*list); err != nil {
			log.Fatal(err)
		}
	}
	for i := range reads {
		reads[i].First, reads[i].Last, reads[i].Attempts = 100, 500, *attempts
	}
	if err := run(*port, *baud, reads, *timeout, *verbose, *raw); err != nil {
		log.Fatal(err)
	}
}

func load(name string) (reads []modbus.Request, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var r modbus.Request
		if _, err := fmt.Sscan(line, &r.Address, &r.Start, &r.Count); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		reads = append(reads, r)
	}
	return reads, nil
}

func run(port string, baud int, reads []modbus.Request, timeout time.Duration, verbose, raw bool) error {
	mode := fieldbus.Mode{Baud: baud, Parity: fieldbus.EvenParity, StopBits: 1}
	line := fieldbus.NewLine(port, mode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return err
	}
	defer fieldbus.Prompt()()
	read := reader(line, timeout)
	if raw {
		read = frames(line, reads[0].Count)
	}

	out := bufio.NewWriter(os.Stdout)
	var dst [modbus.MaxRegisters]uint16
	answered, failed := 0, 0
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return err
	}
	began := time.Now()
	used, made := cpu(), mallocs()
	for _, r := range reads {
		at, err := read(r, dst[:r.Count])
		if err != nil {
			failed++
		} else {
			answered++
		}
		switch {
		case !verbose:
		case err != nil:
			fmt.Fprintln(out, 0, "error")
		default:
			stated := mono.Nano()/1000 + at.Sub(began).Microseconds()
			fmt.Fprintln(out, stated, strings.Trim(fmt.Sprint(dst[:r.Count]), "[]"))
		}
	}
	made, used = mallocs()-made, cpu()-used
	fmt.Fprintln(out, "done", answered, failed, used.Microseconds(), made)
	return out.Flush()
}

type readFunc func(r modbus.Request, dst []uint16) (time.Time, error)

// reader reads through the master.
func reader(line *fieldbus.Line, timeout time.Duration) readFunc {
	m := modbus.NewMaster(line)
	for address := range 247 {
		m.SetTiming(byte(address+1), modbus.Timing{ReplyMax: timeout})
	}
	return func(r modbus.Request, dst []uint16) (time.Time, error) {
		return m.Read(context.Background(), r, dst)
	}
}

// frames sends two prepared requests in turn, so that only the transporter's
// own work is measured.
func frames(line *fieldbus.Line, regs int) readFunc {
	t := modbus.NewTransporter(line)
	next := 0
	var adu [2][]byte
	for i := range adu {
		adu[i] = sealed([]byte{1, byte(3 + i), 0, 200, 0, byte(regs)})
	}
	return func(modbus.Request, []uint16) (time.Time, error) {
		next ^= 1
		_, err := t.Send(adu[next])
		return time.Time{}, err
	}
}

func sealed(b []byte) []byte {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			low := c & 1
			if c >>= 1; low != 0 {
				c ^= 0xA001
			}
		}
	}
	return append(b, byte(c), byte(c>>8))
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		log.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
