package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ListeningSockets asks the kernel which network sockets of a process could
// accept something unasked: TCP sockets in LISTEN, and UDP, UDP-Lite and raw
// sockets that are bound without a peer. It reads the tables of the process's
// own network namespace. Unix sockets are files, guarded by permission, and
// are not counted.
func ListeningSockets(pid int) ([]string, error) {
	inodes, err := socketInodes(pid)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, proto))
		if os.IsNotExist(err) {
			continue // the kernel was built without it
		}
		if err != nil {
			return nil, err
		}
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...
		s := bufio.NewScanner(f)
		for s.Scan() {
			c := strings.Fields(s.Text())
			if len(c) < 10 || !inodes[c[9]] {
				continue
			}
			const tcpListen = "0A"
			listening := c[3] == tcpListen
			if !strings.HasPrefix(proto, "tcp") {
				listening = strings.Trim(strings.TrimSuffix(c[2], ":0000"), "0") == "" // no peer
			}
			if listening {
				found = append(found, proto+" "+c[1])
			}
		}
		f.Close()
		if err := s.Err(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func socketInodes(pid int) (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue // closed since
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}
