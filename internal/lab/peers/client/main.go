// Command client reads registers through another Go library, so that
// Penstock's benchmarks can set its figures beside ours.
//
// It makes -count reads of -regs registers from 200 on of device 1, with
// function 03, one after another, without a retry. With -list FILE it makes the
// reads that the file's lines name instead: device, start and count. With -log
// it writes a line for each: the time before the call in microseconds of
// CLOCK_MONOTONIC, and the values, or the word error. Its last line is "done",
// the numbers of answered and failed reads, and the processor time that they
// took in microseconds. The benchmark's own client and the one in ../libmodbus
// do the same.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	goburrow "github.com/goburrow/modbus"
	gridx "github.com/grid-x/modbus"
	simonvetter "github.com/simonvetter/modbus"
)

// read is one of the reads to make.
type read struct {
	device       byte
	start, count uint16
}

// reader makes a read, and returns its values.
type reader func(read) ([]uint16, error)

var openers = map[string]func(port string, baud int, timeout time.Duration) (reader, error){
	"goburrow": openGoburrow, "grid-x": openGridX, "simonvetter": openSimonvetter,
}

func main() {
	peer := flag.String("peer", "", "goburrow, grid-x or simonvetter")
	port := flag.String("port", "", "serial port, 8E1")
	baud := flag.Int("baud", 19200, "speed")
	regs := flag.Int("regs", 2, "registers in a read")
	count := flag.Int("count", 61, "reads")
	list := flag.String("list", "", "file of the reads to make, a line each: device start count")
	timeout := flag.Duration("timeout", time.Second, "of a read")
	verbose := flag.Bool("log", false, "write a line for each read")
	flag.Parse()

	open := openers[*peer]
	if open == nil {
		log.Fatalf("unknown peer %q", *peer)
	}
	reads := slices.Repeat([]read{{1, 200, uint16(*regs)}}, *count)
	if *list != "" {
		var err error
		if reads, err = load(*list); err != nil {
			log.Fatal(err)
		}
	}
	get, err := open(*port, *baud, *timeout)
	if err != nil {
		log.Fatal(err)
	}

	out := bufio.NewWriter(os.Stdout)
	answered, failed := 0, 0
	before := cpu()
	for _, r := range reads {
		at := monotonic()
		values, err := get(r)
		if err != nil {
			failed++
		} else {
			answered++
		}
		switch {
		case !*verbose:
		case err != nil:
			fmt.Fprintln(out, at, "error")
		default:
			fmt.Fprintln(out, at, strings.Trim(fmt.Sprint(values), "[]"))
		}
	}
	fmt.Fprintln(out, "done", answered, failed, (cpu() - before).Microseconds())
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}

func load(name string) (reads []read, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var r read
		if _, err := fmt.Sscan(line, &r.device, &r.start, &r.count); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		reads = append(reads, r)
	}
	return reads, nil
}

func openGoburrow(port string, baud int, timeout time.Duration) (reader, error) {
	h := goburrow.NewRTUClientHandler(port)
	h.BaudRate, h.DataBits, h.Parity, h.StopBits = baud, 8, "E", 1
	h.Timeout, h.IdleTimeout = timeout, 0
	if err := h.Connect(); err != nil {
		return nil, err
	}
	c := goburrow.NewClient(h)
	return func(r read) ([]uint16, error) {
		h.SlaveId = r.device
		return registers(c.ReadHoldingRegisters(r.start, r.count))
	}, nil
}

func openGridX(port string, baud int, timeout time.Duration) (reader, error) {
	h := gridx.NewRTUClientHandler(port)
	h.BaudRate, h.DataBits, h.Parity, h.StopBits = baud, 8, "E", 1
	h.Timeout, h.IdleTimeout = timeout, 0
	if err := h.Connect(); err != nil {
		return nil, err
	}
	c := gridx.NewClient(h)
	return func(r read) ([]uint16, error) {
		h.SetSlave(r.device)
		return registers(c.ReadHoldingRegisters(r.start, r.count))
	}, nil
}

func registers(b []byte, err error) ([]uint16, error) {
	values := make([]uint16, len(b)/2)
	for i := range values {
		values[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
	}
	return values, err
}

func openSimonvetter(port string, baud int, timeout time.Duration) (reader, error) {
	c, err := simonvetter.NewClient(&simonvetter.ClientConfiguration{
		URL: "rtu://" + port, Speed: uint(baud), DataBits: 8, Parity: simonvetter.PARITY_EVEN, StopBits: 1,
		Timeout: timeout, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, err
	}
	if err := c.Open(); err != nil {
		return nil, err
	}
	return func(r read) ([]uint16, error) {
		if err := c.SetUnitId(r.device); err != nil {
			return nil, err
		}
		return c.ReadRegisters(r.start, r.count, simonvetter.HOLDING_REGISTER)
	}, nil
}

func monotonic() int64 {
	var ts syscall.Timespec
	const clockMonotonic = 1
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		log.Fatal(errno)
	}
	return ts.Nano() / 1000
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		log.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
