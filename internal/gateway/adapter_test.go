package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"penstock/fieldbus/poll"
	"penstock/internal/disk/memdisk"
)

// plugIn puts a serial adapter into a made-up sysfs: at a USB socket, with a serial
// number or none, as a numbered port.
func plugIn(t *testing.T, sys, socket, serial, driver, tty string) {
	t.Helper()
	device := filepath.Join(sys, "devices/usb1", socket)
	port := filepath.Join(device, socket+":1.0", tty)
	class, drivers := filepath.Join(sys, "class/tty", tty), filepath.Join(sys, "bus/drivers", driver)
	for _, dir := range []string{port, class, drivers} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"idVendor": "0403\n", "idProduct": "6001\n", "serial": serial} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(device, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{filepath.Join(class, "device"): port, filepath.Join(port, "driver"): drivers} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAdapterIsKnownUnderAnyNumber(t *testing.T) {
	before, after, ports := t.TempDir(), t.TempDir(), t.TempDir()
	for _, tty := range []string{"ttyUSB0", "ttyUSB1", "ttyUSB2"} {
		if err := os.WriteFile(filepath.Join(ports, tty), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(tty string) string { return filepath.Join(ports, tty) }
	plugIn(t, before, "1-1.2", "FT1234\n", "ftdi_sio", "ttyUSB0")
	plugIn(t, before, "1-1.3", "", "ch341-uart", "ttyUSB1")
	plugIn(t, after, "1-1.3", "", "ch341-uart", "ttyUSB0")
	plugIn(t, after, "1-1.4", "FT1234\n", "ftdi_sio", "ttyUSB1") // and in another socket
	plugIn(t, after, "1-1.5", "", "option1", "ttyUSB2")
	for was, is := range map[string]string{"ttyUSB0": "ttyUSB1", "ttyUSB1": "ttyUSB0"} {
		adapter := adapterOf(before, at(was))
		if adapter == "" {
			t.Fatalf("%s has no name", was)
		}
		if got := portOf(after, filepath.Join(ports, "ttyUSB*"), adapter); got != at(is) {
			t.Errorf("%s (%s) is found at %q; want %s", was, adapter, got, is)
		}
	}
	if !isModem(after, at("ttyUSB2")) || isModem(after, at("ttyUSB0")) {
		t.Error("a modem is not told from an adapter")
	}
	if got := adapterOf(after, "/dev/ttyS0"); got != "" {
		t.Errorf("a port that is soldered in is %q", got)
	}
}

func TestTwoAdaptersThatLookAlikeAreNotTakenForOneAnother(t *testing.T) {
	sys, ports := t.TempDir(), t.TempDir()
	for socket, tty := range map[string]string{"1-1.2": "ttyUSB0", "1-1.3": "ttyUSB1"} {
		plugIn(t, sys, socket, "A50285BI\n", "cp210x", tty)
		if err := os.WriteFile(filepath.Join(ports, tty), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := portOf(sys, filepath.Join(ports, "ttyUSB*"), adapterOf(sys, "/dev/ttyUSB0")); got != "" {
		t.Errorf("one of two with the same serial number was chosen: %s", got)
	}
}

func TestASerialNumberThatAllHaveIsNone(t *testing.T) {
	for serial, want := range map[string]bool{"": false, "0001": false, "12345678": false, "000000": false, "FT1234": true, "A50285BI": true} {
		if got := ofItsOwn(serial); got != want {
			t.Errorf("%q: %v", serial, got)
		}
	}
}

func TestWhichDevicesThePumpsAreSurvivesARestart(t *testing.T) {
	fsys, log := memdisk.New(), slog.New(slog.DiscardHandler)
	s := openStandings(fsys, "/state", log)
	key := standingKey("usb socket 1-1.2 port 1.0", "/dev/ttyUSB0", 12)
	found := poll.Identity{Family: 1, Type: 10, Version: 3}
	if got := s.of(key, found); len(got.Devices) != 1 || got.Devices[0] != found {
		t.Errorf("what the search found is not taken: %+v", got)
	}
	s.keep(key, poll.Standing{Devices: []poll.Identity{found, {Family: 2}}, Present: 1})
	if got := openStandings(fsys, "/state", log).of(key, found); got.Present != 1 || len(got.Devices) != 2 {
		t.Errorf("after a restart: %+v", got)
	}
}
