package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/backend/store"
	"penstock/certs"
	"penstock/certs/est"
	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// The rows of the attack matrix that need the whole backend, a process of its own. A
// row holds when nothing is stored, granted or sent on; its control differs in the
// fault alone, and succeeds.

// longest bounds what a test waits for; nothing is expected to take it.
const longest = 30 * time.Second

// cloud is a live backend, of which a test plays the gateways.
type cloud struct {
	*Site
	t *testing.T
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{prepare(t, nil), t}
	c.must(c.StartCloud(t.Context(), anywhere))
	return c
}

func (c *cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// player is a gateway of which the test holds the keys.
type player struct {
	*cloud
	serial      string
	factory     tls.Certificate
	operational tls.Certificate
	key         *ecdsa.PrivateKey // of the operational certificate
	roots       *x509.CertPool
}

// player provisions a gateway by the programs, as at a bench, and enrols it.
func (c *cloud) player(serial string) *player {
	c.t.Helper()
	state := c.path(serial)
	c.must(c.run(c.t.Context(), c.Programs.Gateway, nil, "provision", "-keys", "file", "-state", state, "-serial", serial, "-model", "cim550", "-board", "lab",
		"-auth", "https://"+c.addresses.Auth, "-issue", fmt.Sprintf("'%s' ca issue -state '%s' -", c.Programs.Cloud, c.path("cloud"))))
	id, err := certs.Load(disk.OS, filepath.Join(state, "identity"), keys.File{Rand: rand.Reader}, time.Now)
	c.must(err)
	cert, err := id.Certificate()
	c.must(err)
	p := &player{cloud: c, serial: serial, factory: *cert, roots: id.Roots()}
	p.key, err = pki.NewKey(rand.Reader)
	c.must(err)
	p.operational, err = p.enrol(p.key)
	c.must(err)
	return p
}

// request is a certificate request for a serial number.
func request(t *testing.T, serial string, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// enrol asks for an operational certificate with the factory identity.
func (p *player) enrol(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	p.t.Helper()
	got, err := p.est().Enroll(p.t.Context(), p.config(p.factory), request(p.t, p.serial, key))
	if err != nil {
		return tls.Certificate{}, err
	}
	return p.joined(key, got[0])
}

// joined is a certificate with its key and its chain.
func (p *player) joined(key *ecdsa.PrivateKey, leaf *x509.Certificate) (tls.Certificate, error) {
	ca, err := pki.LoadCA(disk.OS, p.path("cloud", "ca"), clock.System, rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	chain, err := ca.ChainOf(leaf)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

func (p *player) est() *est.Client {
	p.t.Helper()
	client, err := est.NewClient("https://"+p.addresses.Auth, nil, clock.System)
	p.must(err)
	return client
}

// config is how a gateway connects that shows that certificate.
func (p *player) config(cert tls.Certificate) *tls.Config {
	return pki.ForServer("127.0.0.1", func() (*tls.Certificate, error) { return &cert, nil }, p.roots, time.Now, nil)
}

// answered is what a server answered that granted nothing.
type answered int

func (a answered) Error() string { return fmt.Sprintf("answered %d", int(a)) }

// ask puts a question to the auth service on a connection of its own.
func ask(t *testing.T, config *tls.Config, address, method, path, body string) ([]byte, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	return askBy(t, &http.Client{Transport: transport}, address, method, path, body)
}

func askBy(t *testing.T, client *http.Client, address, method, path, body string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "https://"+address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = answered(res.StatusCode)
	}
	return text, err
}

// session is an MQTT session, spoken by hand.
type session struct {
	net.Conn
	t *testing.T
}

// dial connects to the endpoint; whatever becomes of it, the connection ends with the
// test.
func (p *player) dial(config *tls.Config) (*session, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), longest)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", p.addresses.Endpoint)
	if err != nil {
		return nil, err
	}
	p.t.Cleanup(func() { conn.Close() })
	p.must(conn.SetDeadline(time.Now().Add(longest)))
	return &session{conn, p.t}, nil
}

func connectPacket(id string) *packets.ConnectPacket {
	c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	c.ProtocolName, c.ProtocolVersion, c.CleanSession, c.Keepalive, c.ClientIdentifier = "MQTT", 4, true, 60, id
	return c
}

func publishPacket(topic string, payload []byte) packets.ControlPacket {
	c := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	c.TopicName, c.Qos, c.MessageID, c.Payload = topic, 1, 7, payload
	return c
}

func subscribePacket(topic string) packets.ControlPacket {
	c := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	c.MessageID, c.Topics, c.Qoss = 8, []string{topic}, []byte{1}
	return c
}

// exchange sends a packet and reads the next one.
func (s *session) exchange(c packets.ControlPacket) (packets.ControlPacket, error) {
	if err := c.Write(s.Conn); err != nil {
		return nil, err
	}
	return packets.ReadPacket(s.Conn)
}

// open is a session of that client id: a good one has a CONNACK.
func (p *player) open(config *tls.Config, connect *packets.ConnectPacket) (*session, error) {
	p.t.Helper()
	s, err := p.dial(config)
	if err != nil {
		return nil, err
	}
	got, err := s.exchange(connect)
	if err != nil {
		return nil, err
	}
	if ack, ok := got.(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		return nil, fmt.Errorf("answered %v", got)
	}
	return s, nil
}

// route is one way to be served.
type route struct {
	name string
	role pki.Role // that it is for; "": either
	use  func(p *player, config *tls.Config) error
}

func overHTTP(method, path, body string) func(p *player, config *tls.Config) error {
	return func(p *player, config *tls.Config) error {
		_, err := ask(p.t, config, p.addresses.Auth, method, path, body)
		return err
	}
}

// routes are all ways to be served.
var routes = []route{
	{"assignment", pki.Operational, overHTTP(http.MethodPost, "/v1/assignment", "{}")},
	{"time", "", overHTTP(http.MethodPost, "/v1/time", `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`)},
	{"roots", "", overHTTP(http.MethodGet, "/v1/roots?root=1&roots=0", "")},
	{"cacerts", "", func(p *player, config *tls.Config) error {
		_, err := p.est().CACerts(p.t.Context(), config)
		return err
	}},
	{"csrattrs", "", func(p *player, config *tls.Config) error {
		_, err := p.est().Attributes(p.t.Context(), config)
		return err
	}},
	{"simpleenroll", pki.Factory, func(p *player, config *tls.Config) error {
		_, err := p.est().Enroll(p.t.Context(), config, request(p.t, p.serial, p.key))
		return err
	}},
	{"simplereenroll", pki.Operational, func(p *player, config *tls.Config) error {
		_, err := p.est().Reenroll(p.t.Context(), config, request(p.t, p.serial, p.key))
		return err
	}},
	{"MQTT", pki.Operational, func(p *player, config *tls.Config) error {
		_, err := p.open(config, connectPacket(p.serial))
		return err
	}},
}

func (p *player) identities() map[pki.Role]tls.Certificate {
	return map[pki.Role]tls.Certificate{pki.Factory: p.factory, pki.Operational: p.operational}
}

// certificates counts what was issued to the gateway.
func (p *player) certificates() (n int) {
	p.t.Helper()
	withStore(p.t, p.Site, func(db *store.Store) {
		all, err := db.Certificates(p.t.Context(), p.serial)
		p.must(err)
		n = len(all)
	})
	return n
}

// record is a publish that an endpoint stores: a gap.
func record() []byte {
	return wire.AppendRecord(nil, wire.Epoch{7}, wire.Urgent, 1, wire.GapPayload(telemetry.Gap{Reason: telemetry.UncleanStop, From: time.UnixMilli(1000), To: time.UnixMilli(2000)}))
}

// TestAttackInAnotherGatewaysName: a gateway in good standing names another one.
func TestAttackInAnotherGatewaysName(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	attacker, victim := c.player("ATTA-0001"), c.player("VICT-0001")
	state := []byte(`{"online":true,"session":7}`)
	stored := func(serial string) (records int, seen bool) {
		withStore(t, c.Site, func(db *store.Store) {
			var err error
			if records, err = db.Count(t.Context(), serial, wire.KindGap); err != nil {
				t.Fatal(err)
			}
			g, err := db.Gateway(t.Context(), serial)
			if err != nil {
				t.Fatal(err)
			}
			seen = g.Online || len(g.State) > 0
		})
		return records, seen
	}
	// A command waits for the victim, which whoever reads its topic would get.
	withStore(t, c.Site, func(db *store.Store) {
		if _, err := db.AddCommand(t.Context(), victim.serial, "bus1-1", "start", "", "a test", time.Hour); err != nil {
			t.Fatal(err)
		}
	})
	will := func(serial string) *packets.ConnectPacket {
		p := connectPacket(attacker.serial)
		p.WillFlag, p.WillTopic, p.WillQos, p.WillMessage = true, "gw/"+serial+"/state", 1, state
		return p
	}
	first := func(connect *packets.ConnectPacket) func() (packets.ControlPacket, error) {
		return func() (packets.ControlPacket, error) {
			_, err := attacker.open(attacker.config(attacker.operational), connect)
			return nil, err
		}
	}
	then := func(packet packets.ControlPacket) func() (packets.ControlPacket, error) {
		return func() (packets.ControlPacket, error) {
			s, err := attacker.open(attacker.config(attacker.operational), connectPacket(attacker.serial))
			if err != nil {
				t.Fatal(err)
			}
			return s.exchange(packet)
		}
	}
	rows := []struct {
		name string
		do   func(serial string) func() (packets.ControlPacket, error)
	}{
		{"connects", func(serial string) func() (packets.ControlPacket, error) { return first(connectPacket(serial)) }},
		{"leaves a will", func(serial string) func() (packets.ControlPacket, error) { return first(will(serial)) }},
		{"publishes a record", func(serial string) func() (packets.ControlPacket, error) {
			return then(publishPacket("gw/"+serial+"/up", record()))
		}},
		{"publishes a state", func(serial string) func() (packets.ControlPacket, error) {
			return then(publishPacket("gw/"+serial+"/state", state))
		}},
		{"subscribes to commands", func(serial string) func() (packets.ControlPacket, error) {
			return then(subscribePacket("gw/" + serial + "/down"))
		}},
	}
	for _, r := range rows {
		if got, err := r.do(victim.serial)(); err == nil {
			t.Errorf("%s as the victim: %v", r.name, got)
		}
		if got, err := r.do(attacker.serial)(); err != nil { // the control
			t.Errorf("%s as itself: %v, %v", r.name, got, err)
		}
	}
	// And over HTTP: a certificate in the victim's name.
	for what, enrol := range map[string]func(context.Context, *tls.Config, []byte) ([]*x509.Certificate, error){
		"simpleenroll": attacker.est().Enroll, "simplereenroll": attacker.est().Reenroll} {
		cert := map[string]tls.Certificate{"simpleenroll": attacker.factory, "simplereenroll": attacker.operational}[what]
		if _, err := enrol(t.Context(), attacker.config(cert), request(t, victim.serial, attacker.key)); err == nil {
			t.Errorf("%s in the victim's name", what)
		}
		if _, err := enrol(t.Context(), attacker.config(cert), request(t, attacker.serial, attacker.key)); err != nil {
			t.Errorf("%s in its own: %v", what, err)
		}
	}
	if n := victim.certificates(); n != 2 {
		t.Errorf("the victim has %d certificates", n)
	}
	if records, seen := stored(victim.serial); records != 0 || seen {
		t.Errorf("of the victim are stored %d records, and it was seen: %v", records, seen)
	}
	if records, seen := stored(attacker.serial); records != 1 || !seen {
		t.Errorf("of the attacker itself are stored %d records, and it was seen: %v", records, seen)
	}
	withStore(t, c.Site, func(db *store.Store) {
		commands, err := db.Commands(t.Context(), victim.serial, 10)
		if err != nil || len(commands) != 1 || !commands[0].Sent.IsZero() {
			t.Errorf("the victim's command: %+v, %v", commands, err)
		}
	})
}

// TestAttackRevokedGatewayOnEveryRoute revokes a gateway by a process of its own
// while the backend serves it, and another one that stays.
func TestAttackRevokedGatewayOnEveryRoute(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	gone, stays := c.player("GONE-0001"), c.player("STAY-0001")
	served := func(p *player, but ...string) {
		t.Helper()
		for _, r := range routes {
			if slices.Contains(but, r.name) {
				continue
			}
			for role, cert := range p.identities() {
				if r.role != "" && r.role != role {
					continue
				}
				if err := r.use(p, p.config(cert)); err != nil {
					t.Errorf("%s, %s with the %s identity: %v", p.serial, r.name, role, err)
				}
			}
		}
	}
	served(gone)
	served(stays)

	// What stands when it is revoked: MQTT sessions, HTTP connections that are kept, and
	// tickets of both listeners, in both versions of TLS.
	type standing struct {
		name    string
		version uint16
		role    pki.Role
		config  *tls.Config
		kept    *http.Client
	}
	var all []standing
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		for role, cert := range gone.identities() {
			config := gone.config(cert)
			config.MinVersion, config.MaxVersion, config.ClientSessionCache = version, version, tls.NewLRUClientSessionCache(4)
			all = append(all, standing{fmt.Sprintf("%s, %s", name, role), version, role, config, &http.Client{Transport: &http.Transport{TLSClientConfig: config}}})
		}
	}
	resumed := func(s standing, address string) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), longest)
		defer cancel()
		conn, err := (&tls.Dialer{Config: s.config}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(longest)); err != nil {
			return false, err
		}
		// A client of TLS 1.3 hears of a refusal, and gets its ticket, by its first read.
		if address == gone.addresses.Auth {
			_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		} else {
			err = connectPacket(gone.serial).Write(conn)
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return conn.(*tls.Conn).ConnectionState().DidResume, err
	}
	listeners := func(s standing) []string {
		if s.role == pki.Factory {
			return []string{gone.addresses.Auth} // the endpoint takes the other
		}
		return []string{gone.addresses.Auth, gone.addresses.Endpoint}
	}
	const question = `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`
	for _, s := range all {
		for _, address := range listeners(s) {
			if _, err := resumed(s, address); err != nil {
				t.Fatalf("%s, at first: %v", s.name, err)
			}
			if again, err := resumed(s, address); err != nil || !again { // the control of the tickets
				t.Fatalf("%s, a second time: resumed %v, %v", s.name, again, err)
			}
		}
		if _, err := askBy(t, s.kept, gone.addresses.Auth, http.MethodPost, "/v1/time", question); err != nil {
			t.Fatal(err)
		}
	}
	var dropped error
	var at time.Time
	ended := make(chan struct{}) // the session of the one that is revoked
	live := map[*player]*session{}
	for _, p := range []*player{gone, stays} {
		s, err := p.open(p.config(p.operational), connectPacket(p.serial))
		c.must(err)
		live[p] = s
	}

	go func() {
		defer close(ended)
		_, dropped = packets.ReadPacket(live[gone])
		at = time.Now()
	}()
	_, err := c.Cloud(t.Context(), "ca revoke", gone.serial, "-reason", "stolen from the pump room")
	c.must(err)
	revoked := time.Now()

	// New connections, and requests on those that stand, are refused from now on.
	for _, r := range routes {
		for role, cert := range gone.identities() {
			before := gone.certificates()
			if err := r.use(gone, gone.config(cert)); err == nil || gone.certificates() != before {
				t.Errorf("revoked, %s with the %s identity: %v", r.name, role, err)
			}
		}
	}
	for _, s := range all {
		for _, address := range listeners(s) {
			if _, err := resumed(s, address); err == nil {
				t.Errorf("revoked, %s: resumed by its ticket", s.name)
			}
		}
		if _, err := askBy(t, s.kept, gone.addresses.Auth, http.MethodPost, "/v1/time", question); err == nil {
			t.Errorf("revoked, %s: served on a connection of before", s.name)
		}
	}
	// The session that stood ends by itself.
	<-ended
	var slow net.Error
	if dropped == nil || errors.As(dropped, &slow) && slow.Timeout() {
		t.Errorf("the session that stood is not dropped: %v", dropped)
	}
	t.Logf("the session that stood ended %v after the command", at.Sub(revoked).Round(time.Millisecond))
	// The control: the session of the other one stands, and it is served.
	if got, err := live[stays].exchange(packets.NewControlPacket(packets.Pingreq)); err != nil {
		t.Errorf("the session of the other gateway: %v", err)
	} else if _, ok := got.(*packets.PingrespPacket); !ok {
		t.Errorf("the session of the other gateway got %v", got)
	}
	served(stays)
	withStore(t, c.Site, func(db *store.Store) {
		all, err := db.Revocations(t.Context(), 0)
		if err != nil || len(all) != 1 || all[0].Gateway != gone.serial || all[0].Number != "" || all[0].Reason != "stolen from the pump room" {
			t.Errorf("on record: %+v, %v", all, err)
		}
	})
	if out, err := c.Cloud(t.Context(), "ca list"); err != nil || !strings.Contains(out, "stolen from the pump room") {
		t.Errorf("listed: %s, %v", out, err)
	}

	// Let in again, it needs a new operational key.
	_, err = c.Cloud(t.Context(), "ca unrevoke", gone.serial, "-reason", "found in the van")
	c.must(err)
	for _, r := range routes {
		if r.role == pki.Factory {
			continue
		}
		if err := r.use(gone, gone.config(gone.operational)); err == nil {
			t.Errorf("let in again, %s with the operational certificate of before", r.name)
		}
	}
	if _, err := gone.enrol(gone.key); err == nil {
		t.Error("let in again, its old operational key is certified")
	}
	gone.key, err = pki.NewKey(rand.Reader)
	c.must(err)
	gone.operational, err = gone.enrol(gone.key)
	c.must(err)
	served(gone, "simpleenroll", "simplereenroll") // of which it has had many
}
