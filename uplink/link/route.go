package link

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

type route struct {
	device string
	metric int
}

// defaultRoute finds the best default route over a device, or of all when device
// is empty, in the kernel's table (/proc/net/route).
func (d *Device) defaultRoute(device string) (best route, found bool, err error) {
	f, err := os.Open(filepath.Join(d.proc, "net/route"))
	if err != nil {
		return best, false, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for line := 1; s.Scan(); line++ {
		w := strings.Fields(s.Text())
		if line == 1 || len(w) < 8 {
			continue // the heading
		}
		const up = 1
		flags, err := strconv.ParseUint(w[3], 16, 32)
		if err != nil {
			return best, false, fmt.Errorf("/proc/net/route:%d: flags %q", line, w[3])
		}
		if w[1] != "00000000" || w[7] != "00000000" || flags&up == 0 || device != "" && w[0] != device {
			continue
		}
		m, err := strconv.Atoi(w[6])
		if err != nil {
			return best, false, fmt.Errorf("/proc/net/route:%d: metric %q", line, w[6])
		}
		if !found || m < best.metric {
			best, found = route{w[0], m}, true
		}
	}
	return best, found, s.Err()
}
