package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"penstock/internal/lab/netns"
)

// answer is how a name server answers.
type answer int

const (
	truth     answer = iota
	lie              // with the address of somebody else
	silence          // not at all
	fails            // SERVFAIL
	denies           // NXDOMAIN
	truncated        // by UDP with the truncated bit alone, by TCP with the truth
)

// nameServer knows one name.
type nameServer struct {
	truth, lie netip.Addr
	manner     atomic.Int32
	asked      atomic.Int32 // questions since the manner was set
}

const cloudName = "cloud.penstock.test."

func (s *nameServer) set(a answer) {
	s.manner.Store(int32(a))
	s.asked.Store(0)
}

// nameServers puts two name servers behind the router. They end with the test.
func (w *wan) nameServers(truth, lie string) (one, two *nameServer) {
	w.t.Helper()
	var all [2]*nameServer
	for i, address := range []string{"10.9.0.53", "10.9.0.54"} {
		w.ip(w.router, "address add "+address+"/32 dev lo")
		s := &nameServer{truth: netip.MustParseAddr(truth), lie: netip.MustParseAddr(lie)}
		if err := s.serve(w.t, w.router, address+":53"); err != nil {
			w.t.Fatal(err)
		}
		all[i] = s
	}
	return all[0], all[1]
}

const namedLink = "links:\n  - {name: ethernet, device: eth0, dns: [10.9.0.53, 10.9.0.54]}\n"

func (s *nameServer) serve(t *testing.T, in *netns.Namespace, address string) error {
	var udp net.PacketConn
	if err := in.Do(func() (err error) {
		udp, err = net.ListenPacket("udp4", address)
		return err
	}); err != nil {
		return err
	}
	tcp, err := in.Listen("tcp4", address)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { udp.Close(); tcp.Close(); serving.Wait() })
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.reply(buf[:n], false); reply != nil {
				_, _ = udp.WriteTo(reply, from)
			}
		}
	})
	serving.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				head := make([]byte, 2)
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				question := make([]byte, binary.BigEndian.Uint16(head))
				if _, err := io.ReadFull(c, question); err != nil {
					return
				}
				if reply := s.reply(question, true); reply != nil {
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			})
		}
	})
	return nil
}

// reply is the answer to a question, or nil for none.
func (s *nameServer) reply(question []byte, tcp bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	s.asked.Add(1)
	q := m.Questions[0]
	reply := dnsmessage.Message{Questions: m.Questions, Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}}
	a := s.truth
	switch answer(s.manner.Load()) {
	case truth:
	case lie:
		a = s.lie
	case silence:
		return nil
	case fails:
		reply.RCode = dnsmessage.RCodeServerFailure
	case denies:
		reply.RCode = dnsmessage.RCodeNameError
	case truncated:
		reply.Truncated = !tcp
	}
	switch {
	case reply.RCode != dnsmessage.RCodeSuccess || reply.Truncated:
	case q.Name.String() != cloudName:
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body: &dnsmessage.AResource{A: a.As4()}}}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// impostor is a server at another address that has the right name in a
// certificate of its own.
type impostor struct {
	met  atomic.Int32 // connections
	told atomic.Int32 // handshakes that a gateway completed, or bytes that it sent in one
}

func (w *wan) impostor(address string) *impostor {
	w.t.Helper()
	w.ip(w.router, "address add "+address+"/32 dev lo")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	name := cloudName[:len(cloudName)-1]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		w.t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequestClientCert}
	i := &impostor{}
	for _, port := range []string{":8443", ":8883"} {
		l, err := w.router.Listen("tcp4", address+port)
		if err != nil {
			w.t.Fatal(err)
		}
		var serving sync.WaitGroup
		w.t.Cleanup(func() { l.Close(); serving.Wait() })
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				i.met.Add(1)
				serving.Go(func() {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(10 * time.Second))
					secure := tls.Server(c, config)
					if secure.Handshake() == nil {
						i.told.Add(1)
					} else if n, _ := secure.Read(make([]byte, 1)); n > 0 {
						i.told.Add(1)
					}
				})
			}
		})
	}
	return i
}

func named(s *Site) {
	name := cloudName[:len(cloudName)-1]
	s.Hosts, s.Reached = name+",10.3.0.2", name
}

// again stops the gateway in order and starts it.
func again(t *testing.T, site *Site) {
	t.Helper()
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNameServersThatLieOrHang: the gateway finds its backend by name, and a name
// is looked up anew for each connection. Trouble with one of the link's two name
// servers costs time; trouble with both is waited out.
func TestNameServersThatLieOrHang(t *testing.T) {
	t.Parallel()
	for name, troubles := range map[string][]struct {
		name     string
		one, two answer
		healed   answer // two, in the end; one stays as it is
	}{
		"lies": {
			{"both lie, then the second tells the truth", lie, lie, truth},
			{"the name is denied", denies, denies, truth},
			{"one does not know", fails, truth, truth},
		},
		"silence": {
			{"both hang, then the second answers", silence, silence, truth},
			{"the first hangs", silence, truth, truth},
			{"answers by TCP only", truncated, truncated, truncated},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			const elsewhere = "10.9.0.66"
			i := w.impostor(elsewhere)
			one, two := w.nameServers("10.3.0.2", elsewhere)
			site := w.site(namedLink, named)
			for _, trouble := range troubles {
				t.Log(trouble.name)
				recovered(t, site, time.Minute)
				one.set(trouble.one)
				two.set(trouble.two)
				met := i.met.Load()
				again(t, site) // whoever comes up begins with a lookup
				if trouble.two != trouble.healed {
					// It tries, and does not get anywhere, but goes on.
					if err := await(t.Context(), "two attempts in vain", site.GatewayProc, func() (bool, error) {
						s, err := site.Status(t.Context())
						if err != nil {
							return false, err
						}
						if s.Uplink.State == "connected" {
							return false, errors.New("it is connected")
						}
						return one.asked.Load() > 2 && two.asked.Load() > 2 && (trouble.one != lie || i.met.Load() >= met+2), nil
					}); err != nil {
						t.Fatal(err)
					}
					s, err := site.Status(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("in vain: %s", s.Uplink.LastError)
					if want := "the name servers of eth0"; trouble.one != lie && !strings.Contains(s.Uplink.LastError, want) {
						t.Errorf("the status says %q, which does not name %s", s.Uplink.LastError, want)
					}
					two.set(trouble.healed)
				}
				recovered(t, site, 90*time.Second)
			}
			if i.told.Load() != 0 {
				t.Error("the impostor was believed")
			}
			if name == "lies" && i.met.Load() < 2 {
				t.Error("nobody came to the impostor; that it was not believed shows nothing")
			}
			settle(t, site, 0)
		})
	}
}
