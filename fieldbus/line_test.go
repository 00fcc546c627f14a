package fieldbus_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
)

func newLine(t *testing.T) (*fieldbus.Line, *linetest.Port, *linetest.Clock) {
	t.Helper()
	clk := linetest.NewClock()
	p := linetest.NewPort(clk)
	return p.Line(fieldbus.Default), p, clk
}

func TestReadEndsAtItsDeadlineAndNotBefore(t *testing.T) {
	l, _, clk := newLine(t)
	deadline := clk.Now().Add(30*time.Millisecond + 300*time.Nanosecond)
	if _, err := l.Read(make([]byte, 8), deadline); !errors.Is(err, fieldbus.ErrTimeout) {
		t.Fatalf("Read of a silent line: %v; want ErrTimeout", err)
	}
	if now := clk.Now(); now.Before(deadline) || now.Sub(deadline) > time.Microsecond {
		t.Errorf("Read returned %v after its deadline", now.Sub(deadline))
	}
}

func TestReadAfterTheDeadlineReturnsWhatHasArrived(t *testing.T) {
	l, p, clk := newLine(t)
	p.Deliver(clk.Now(), 1, 2)
	b := make([]byte, 8)
	n, err := l.Read(b, clk.Now().Add(-time.Second))
	if n != 2 || err != nil {
		t.Fatalf("Read = %d, %v; want the two bytes", n, err)
	}
}

func TestQuietWaitsForAWholeSilence(t *testing.T) {
	l, p, clk := newLine(t)
	began := clk.Now()
	last := began.Add(14 * time.Millisecond)
	for i := range 8 { // a byte every 2 ms
		p.Deliver(began.Add(time.Duration(2*i)*time.Millisecond), byte(i))
	}
	var heard [16]byte
	n, err := l.Quiet(4*time.Millisecond, heard[:])
	if err != nil {
		t.Fatal(err)
	}
	if got := clk.Now().Sub(last); got < 4*time.Millisecond {
		t.Errorf("Quiet returned %v after the last byte", got)
	}
	if n != 8 || heard[7] != 7 {
		t.Errorf("Quiet heard % x", heard[:n])
	}
}

func TestQuietCountsFromTheEndOfOurOwnFrame(t *testing.T) {
	l, _, clk := newLine(t)
	frame := make([]byte, 96) // 55 ms at 19200 8E1
	at, err := l.Write(frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Quiet(2*time.Millisecond, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if got, want := clk.Now().Sub(at), l.Mode().Wire(96)+2*time.Millisecond; got < want {
		t.Errorf("Quiet returned %v after the frame began; its bits and the silence take %v", got, want)
	}
}

func TestQuietOfALongIdleLineDoesNotWait(t *testing.T) {
	l, _, clk := newLine(t)
	clk.Advance(time.Second)
	began := clk.Now()
	if _, err := l.Quiet(4*time.Millisecond, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if took := clk.Now().Sub(began); took != 0 {
		t.Errorf("Quiet waited %v", took)
	}
}

func TestQuietNoticesAFrameThatIsUnderWay(t *testing.T) {
	l, p, clk := newLine(t)
	clk.Advance(time.Second)
	p.Deliver(clk.Now(), 0x11)
	p.Deliver(clk.Now().Add(time.Millisecond), 0x22)
	last := clk.Now().Add(time.Millisecond)
	if _, err := l.Quiet(4*time.Millisecond, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if got := clk.Now().Sub(last); got < 4*time.Millisecond {
		t.Errorf("Quiet returned %v after the last byte", got)
	}
}

func TestQuietGivesUpOnALineThatNeverFallsSilent(t *testing.T) {
	l, p, clk := newLine(t)
	for i := range 10_000 {
		p.Deliver(clk.Now().Add(time.Duration(i)*time.Millisecond), 0x55)
	}
	if _, err := l.Quiet(4*time.Millisecond, make([]byte, 16)); !errors.Is(err, fieldbus.ErrBabble) {
		t.Fatalf("Quiet = %v; want ErrBabble", err)
	}
	if l.Counters().Babble.Load() != 1 {
		t.Error("the babble was not counted")
	}
}

func TestPartialWriteIsAnErrorAndNotHalfAFrame(t *testing.T) {
	l, p, _ := newLine(t)
	p.WriteLimit = 3
	if _, err := l.Write(make([]byte, 8)); !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("Write = %v; want a short write", err)
	}
}

func TestVanishedAdapterIsOpenedAgainOnTheSameLine(t *testing.T) {
	l, p, clk := newLine(t)
	p.Vanish()
	_, err := l.Read(make([]byte, 8), clk.Now().Add(time.Second))
	if !errors.Is(err, fieldbus.ErrVanished) {
		t.Fatalf("Read of a vanished port: %v", err)
	}
	if l.IsOpen() {
		t.Error("the line believes that its port is open")
	}
	if _, err := l.Write([]byte{1}); !errors.Is(err, fieldbus.ErrClosed) {
		t.Errorf("Write before the port is back: %v; want ErrClosed", err)
	}
	if err := l.Open(); !errors.Is(err, fieldbus.ErrMissing) {
		t.Fatalf("Open before the port is back: %v; want ErrMissing", err)
	}
	p.Fail(nil)
	if err := l.Open(); err != nil {
		t.Fatalf("Open after the port came back: %v", err)
	}
	if _, err := l.Write([]byte{1}); err != nil {
		t.Errorf("Write after the port came back: %v", err)
	}
	c := l.Counters()
	if c.Opened.Load() != 2 || c.Vanished.Load() != 1 {
		t.Errorf("opened %d times, vanished %d times; want 2 and 1", c.Opened.Load(), c.Vanished.Load())
	}
}

func TestWrongParityDoesNotPassUnnoticed(t *testing.T) {
	l, p, clk := newLine(t)
	p.Far = fieldbus.Mode{Baud: 19200, Parity: fieldbus.OddParity, StopBits: 1}
	p.Deliver(clk.Now(), 0x01, 0x03)
	b := make([]byte, 8)
	n, err := l.Read(b, clk.Now().Add(time.Millisecond))
	if err != nil || n != 2 || b[0] != 0 || b[1] != 0 {
		t.Errorf("bytes of odd parity arrive as % x, %v; want zeros", b[:n], err)
	}
}
