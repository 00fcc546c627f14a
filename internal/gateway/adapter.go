package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"penstock/fieldbus"
)

// The kernel numbers serial adapters in the order in which it finds them: after a
// restart, or when two were unplugged, /dev/ttyUSB0 may be another one. An adapter is
// therefore known by its serial number, or where it has none by the USB socket that
// it is in.

// sysfs is where the kernel describes its devices.
const sysfs = "/sys"

// modemDrivers are the kernel's drivers for the serial ports of mobile modems.
var modemDrivers = []string{"option1", "option", "qcserial", "sierra"}

// usbPort is the sysfs folder of a serial port on USB, symbolic links resolved; ""
// where the port is none.
func usbPort(sys, port string) string {
	if real, err := filepath.EvalSymlinks(port); err == nil {
		port = real // such as a name below /dev/serial/by-id
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "class/tty", filepath.Base(port), "device"))
	if err != nil {
		return ""
	}
	return dir
}

// adapterOf names the adapter that a serial port belongs to, so that it is known again
// under another number; "" where the port is not on USB. The name says which of an
// adapter's ports it is.
func adapterOf(sys, port string) string {
	// …/1-1.2/1-1.2:1.0/ttyUSB0, or the interface itself for a device of class CDC.
	for dir := usbPort(sys, port); len(dir) > 1; dir = filepath.Dir(dir) {
		socket, number, ok := strings.Cut(filepath.Base(dir), ":")
		if !ok || !strings.Contains(socket, "-") {
			continue
		}
		device := filepath.Dir(dir)
		if serial := attribute(device, "serial"); ofItsOwn(serial) {
			return fmt.Sprintf("usb %s:%s serial %s port %s", attribute(device, "idVendor"), attribute(device, "idProduct"), serial, number)
		}
		return fmt.Sprintf("usb socket %s port %s", socket, number)
	}
	return ""
}

// ofItsOwn tells whether a serial number is one: makers that number nothing leave
// 0001, 12345678 and the like in all their adapters.
func ofItsOwn(serial string) bool {
	return len(serial) >= 6 && !strings.HasPrefix("0123456789", serial) && !strings.HasPrefix("123456789", serial) &&
		strings.Trim(serial, serial[:1]) != ""
}

func attribute(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// isModem tells whether a port is one of a mobile modem, on which nobody looks for pumps.
func isModem(sys, port string) bool {
	driver, err := filepath.EvalSymlinks(filepath.Join(sys, "class/tty", filepath.Base(port), "device/driver"))
	return err == nil && slices.Contains(modemDrivers, filepath.Base(driver))
}

// portOf finds the port at which an adapter is at present; "" where it is not
// plugged in, or where two look alike.
func portOf(sys, ports, adapter string) (port string) {
	all, _ := filepath.Glob(ports) // its one error is a bad pattern
	for _, p := range all {
		if adapterOf(sys, p) != adapter {
			continue
		}
		if port != "" {
			return ""
		}
		port = p
	}
	return port
}

// openAdapter returns how a bus opens its port: where its adapter is now.
func openAdapter(sys, ports, adapter string) fieldbus.Opener {
	if adapter == "" {
		return nil
	}
	return func(path string, mode fieldbus.Mode) (fieldbus.Port, error) {
		port := portOf(sys, ports, adapter)
		if port == "" {
			return nil, fmt.Errorf("the adapter of %s (%s) is not plugged in, or another one looks like it", path, adapter)
		}
		return fieldbus.OpenSerial(port, mode)
	}
}
