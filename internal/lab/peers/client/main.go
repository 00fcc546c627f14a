// Command client reads registers through another Go library, so that
// Penstock's benchmarks can set its figures beside ours.
//
// It makes -count reads of -regs registers from 200 on with function 03, one
// after another, without a retry. With -log it writes a line for each: the
// start address, the time before the call in microseconds of CLOCK_MONOTONIC,
// and the values, or the word error. Its last line is "done", the numbers of
// answered and failed reads, and the processor time that they took in
// microseconds. The benchmark's own client and the one in ../libmodbus do the
// same.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	goburrow "github.com/goburrow/modbus"
	simonvetter "github.com/simonvetter/modbus"
)

// reader reads count registers from start on into dst.
type reader func(start uint16, dst []uint16) error

func main() {
	peer := flag.String("peer", "", "goburrow or simonvetter")
	port := flag.String("port", "", "serial port, 8E1")
	baud := flag.Int("baud", 19200, "speed")
	regs := flag.Int("regs", 2, "registers in a read")
	count := flag.Int("count", 61, "reads")
	step := flag.Int("step", 0, "by how much the start address moves, eight times in turn")
	timeout := flag.Duration("timeout", time.Second, "of a read")
	verbose := flag.Bool("log", false, "write a line for each read")
	flag.Parse()

	var read reader
	var err error
	switch *peer {
	case "goburrow":
		read, err = openGoburrow(*port, *baud, *timeout)
	case "simonvetter":
		read, err = openSimonvetter(*port, *baud, *timeout)
	default:
		err = fmt.Errorf("unknown peer %q", *peer)
	}
	if err != nil {
		log.Fatal(err)
	}

	out := bufio.NewWriter(os.Stdout)
	dst := make([]uint16, *regs)
	answered, failed := 0, 0
	before := cpu()
	for i := range *count {
		start := uint16(200 + i%8**step)
		at := monotonic()
		if err := read(start, dst); err != nil {
			failed++
			if *verbose {
				fmt.Fprintln(out, start, at, "error")
			}
			continue
		}
		answered++
		if *verbose {
			fmt.Fprintln(out, start, at, strings.Trim(fmt.Sprint(dst), "[]"))
		}
	}
	fmt.Fprintln(out, "done", answered, failed, (cpu() - before).Microseconds())
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}

func openGoburrow(port string, baud int, timeout time.Duration) (reader, error) {
	h := goburrow.NewRTUClientHandler(port)
	h.BaudRate, h.DataBits, h.Parity, h.StopBits = baud, 8, "E", 1
	h.SlaveId, h.Timeout, h.IdleTimeout = 1, timeout, 0
	if err := h.Connect(); err != nil {
		return nil, err
	}
	c := goburrow.NewClient(h)
	return func(start uint16, dst []uint16) error {
		b, err := c.ReadHoldingRegisters(start, uint16(len(dst)))
		if err != nil {
			return err
		}
		for i := range dst {
			dst[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		}
		return nil
	}, nil
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
	if err := c.SetUnitId(1); err != nil {
		return nil, err
	}
	return func(start uint16, dst []uint16) error {
		v, err := c.ReadRegisters(start, uint16(len(dst)), simonvetter.HOLDING_REGISTER)
		copy(dst, v)
		return err
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
