package link

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine writes files as the kernel shows them.
func machine(t *testing.T, cfg DeviceConfig, files map[string]string) *Device {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := NewDevice(cfg)
	d.proc = filepath.Join(dir, "proc")
	d.flags = func(string) (net.Flags, error) { return net.FlagUp | net.FlagRunning, nil }
	return d
}

const routes = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100A8C0	0003	0	0	100	00000000	0	0	0
eth0	0000A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
wwan0	00000000	010010AC	0003	0	0	50	00000000	0	0	0
`

func TestProblemsOfTheMachineAreSaid(t *testing.T) {
	for name, c := range map[string]struct {
		cfg   DeviceConfig
		files map[string]string
		want  string // in the only problem; "" for none
	}{
		"all is well":                 {DeviceConfig{Device: "eth0", First: true}, map[string]string{"proc/net/route": routes}, ""},
		"no default route":            {DeviceConfig{Device: "eth1", First: true}, map[string]string{"proc/net/route": routes}, "no default route leads over eth1"},
		"point-to-point needs none":   {DeviceConfig{Device: "eth1", PointToPoint: true}, map[string]string{"proc/net/route": routes}, ""},
		"the fallback's route first":  {DeviceConfig{Device: "wwan0"}, map[string]string{"proc/net/route": routes}, "is the machine's first"},
		"the fallback's route second": {DeviceConfig{Device: "eth0"}, map[string]string{"proc/net/route": routes}, ""},
		"strict reverse path": {DeviceConfig{Device: "eth0", First: true},
			map[string]string{"proc/net/route": routes, "proc/sys/net/ipv4/conf/eth0/rp_filter": "1\n"}, "conf/eth0/rp_filter is 1"},
		"loose reverse path": {DeviceConfig{Device: "eth0", First: true},
			map[string]string{"proc/net/route": routes, "proc/sys/net/ipv4/conf/all/rp_filter": "2\n"}, ""},
		"routes that cannot be read": {DeviceConfig{Device: "eth0", First: true}, nil, "cannot be read"},
	} {
		got := machine(t, c.cfg, c.files).Problems()
		if c.want == "" && len(got) == 0 || len(got) == 1 && c.want != "" && strings.Contains(got[0], c.want) {
			continue
		}
		t.Errorf("%s: %q", name, got)
	}
}

func TestADeviceIsReadyWithCarrierOnly(t *testing.T) {
	d := machine(t, DeviceConfig{Device: "eth0"}, nil)
	for want, flags := range map[string]net.Flags{"": net.FlagUp | net.FlagRunning, "no carrier": net.FlagUp, "is not up": 0} {
		d.flags = func(string) (net.Flags, error) { return flags, nil }
		if err := d.Ready(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", flags, err)
		}
	}
	d.flags = flagsOf
	d.cfg.Device = "nosuch0"
	if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "there is no device nosuch0") {
		t.Error(err)
	}
}

func TestBytesAreThoseOfTheDevice(t *testing.T) {
	d := machine(t, DeviceConfig{Device: "eth0"}, map[string]string{"proc/net/dev": "Inter-|   Receive  |  Transmit\n face |bytes packets\n" +
		" eth01: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0:  500 5 0 0 0 0 0 0 700 7 0 0 0 0 0 0\n"})
	if n, err := d.Bytes(); n != 1200 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	d.cfg.Device = "eth9"
	if n, err := d.Bytes(); err == nil {
		t.Errorf("%d bytes of a device that is not there", n)
	}
}

func TestNameServersAreThoseOfTheLeaseAndNeverAStub(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv")
	for text, want := range map[string][]netip.Addr{
		"nameserver 127.0.0.53\nnameserver 192.0.2.1\n":  {netip.MustParseAddr("192.0.2.1")},
		"ADDRESS=192.0.2.7\nDNS=192.0.2.2 2001:db8::1\n": {netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")},
		"# nameserver 192.0.2.1\nsearch x\nnameserver\n": nil,
		"nameserver ::1\nnameserver not-an-address\n":    nil,
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := readServers(file)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}
