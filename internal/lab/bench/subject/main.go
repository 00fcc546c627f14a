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
	step := flag.Int("step", 0, "by how much the start address moves, eight times in turn")
	timeout := flag.Duration("timeout", time.Second, "of a read from a device whose pace is unknown")
	attempts := flag.Int("attempts", 1, "how often a request is sent")
	verbose := flag.Bool("log", false, "write a line for each read")
	raw := flag.Bool("raw", false, "send frames through the transporter alone")
	flag.Parse()
	if err := run(*port, *baud, *regs, *count, *step, *attempts, *timeout, *verbose, *raw); err != nil {
		log.Fatal(err)
	}
}

func run(port string, baud, regs, count, step, attempts int, timeout time.Duration, verbose, raw bool) error {
	mode := fieldbus.Mode{Baud: baud, Parity: fieldbus.EvenParity, StopBits: 1}
	line := fieldbus.NewLine(port, mode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return err
	}
	defer fieldbus.Prompt()()
	read := reader(line, regs, attempts, timeout)
	if raw {
		read = frames(line, regs)
	}

	out := bufio.NewWriter(os.Stdout)
	dst := make([]uint16, regs)
	answered, failed := 0, 0
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return err
	}
	began := time.Now()
	used, made := cpu(), mallocs()
	for i := range count {
		start := uint16(200 + i%8*step)
		at, err := read(start, dst)
		if err != nil {
			failed++
			if verbose {
				fmt.Fprintln(out, start, 0, "error")
			}
			continue
		}
		answered++
		if verbose {
			stated := mono.Nano()/1000 + at.Sub(began).Microseconds()
			fmt.Fprintln(out, start, stated, strings.Trim(fmt.Sprint(dst), "[]"))
		}
	}
	made, used = mallocs()-made, cpu()-used
	fmt.Fprintln(out, "done", answered, failed, used.Microseconds(), made)
	return out.Flush()
}

type readFunc func(start uint16, dst []uint16) (time.Time, error)

// reader reads through the master.
func reader(line *fieldbus.Line, regs, attempts int, timeout time.Duration) readFunc {
	m := modbus.NewMaster(line)
	m.SetTiming(1, modbus.Timing{ReplyMax: timeout})
	return func(start uint16, dst []uint16) (time.Time, error) {
		r := modbus.Request{Address: 1, Start: start, Count: regs, First: 100, Last: 500, Attempts: attempts}
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
	return func(uint16, []uint16) (time.Time, error) {
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
