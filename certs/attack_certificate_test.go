package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"

	"penstock/certs/pki/pkitest"
)

// Rows where a peer shows a certificate that it should not have. "Gateway" rows are
// attacks on a server, "Server" rows attacks on a gateway.

func TestAttackGatewaySelfSigned(t *testing.T) {
	row(t, "it comes from another authority", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		return selfSigned(t, gatewayLike(t, s.Authorities, "GW-0001")), s.Enrolled(t, "GW-0001")
	})
}

func TestAttackGatewayOfAnotherAuthority(t *testing.T) {
	row(t, "it comes from another authority", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		return pkitest.New(t).Enrolled(t, "GW-0001"), s.Enrolled(t, "GW-0001")
	})
}

// forged is a row of a gateway's certificate that our own authority signed, with
// one fault.
func forged(t *testing.T, says string, fault func(c *x509.Certificate) *x509.Certificate) {
	t.Helper()
	row(t, says, func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		by := s.Operational
		return pkitest.Forge(t, by, fault(gatewayLike(t, s.Authorities, "GW-0001")), by.Certificate),
			pkitest.Forge(t, by, gatewayLike(t, s.Authorities, "GW-0001"), by.Certificate)
	})
}

func TestAttackGatewayExpired(t *testing.T)     { forged(t, "it expired on", expired) }
func TestAttackGatewayNotYetValid(t *testing.T) { forged(t, "it is valid only from", notYet) }

func TestAttackGatewayWrongName(t *testing.T) {
	forged(t, "a gateway's names gw-0001.gw.penstock.internal and nothing else", func(c *x509.Certificate) *x509.Certificate {
		c.DNSNames = []string{"gw-0002.gw.penstock.internal"}
		return c
	})
}

func TestAttackGatewayTwoNames(t *testing.T) {
	forged(t, "and nothing else", func(c *x509.Certificate) *x509.Certificate {
		c.DNSNames = append(c.DNSNames, "gw-0002.gw.penstock.internal")
		return c
	})
}

func TestAttackGatewaySerialNumberIsAWildcard(t *testing.T) {
	forged(t, "is not a serial number", func(c *x509.Certificate) *x509.Certificate {
		c.Subject.CommonName = "+"
		return c
	})
}

func TestAttackGatewayWithoutUsage(t *testing.T) {
	forged(t, "does not say that it is for a client", func(c *x509.Certificate) *x509.Certificate {
		c.ExtKeyUsage = nil
		return c
	})
}

func TestAttackGatewayOfAnyUsage(t *testing.T) {
	forged(t, "does not say that it is for a client", func(c *x509.Certificate) *x509.Certificate {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		return c
	})
}

func TestAttackGatewayWithoutRole(t *testing.T) {
	forged(t, "has no role", func(c *x509.Certificate) *x509.Certificate {
		c.Policies = nil
		return c
	})
}

func TestAttackGatewayBreachOfTheNameConstraint(t *testing.T) {
	forged(t, "may not issue for that name", func(c *x509.Certificate) *x509.Certificate {
		c.DNSNames = []string{"gw-0001.elsewhere.example"}
		return c
	})
}

func TestAttackGatewayAddressPastTheNameConstraint(t *testing.T) {
	forged(t, "may not issue for that name", func(c *x509.Certificate) *x509.Certificate {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		return c
	})
}

func TestAttackGatewayWrongUsage(t *testing.T) {
	row(t, "is not for this use", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		return s.Server(t, "localhost"), s.Enrolled(t, "GW-0001") // a stolen server's
	})
}

func TestAttackGatewayByTheServersAuthority(t *testing.T) {
	row(t, "", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		c := gatewayLike(t, s.Authorities, "GW-0001")
		return pkitest.Forge(t, s.Servers, c, s.Servers.Certificate),
			pkitest.Forge(t, s.Operational, gatewayLike(t, s.Authorities, "GW-0001"), s.Operational.Certificate)
	})
}

func TestAttackGatewayRoleOfAnotherAuthority(t *testing.T) {
	row(t, "may not issue operational certificates", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		return pkitest.Forge(t, s.Factory, gatewayLike(t, s.Authorities, "GW-0001"), s.Factory.Certificate),
			pkitest.Forge(t, s.Operational, gatewayLike(t, s.Authorities, "GW-0001"), s.Operational.Certificate)
	})
}

func TestAttackGatewayIntermediateWithoutCABit(t *testing.T) {
	row(t, "is not an authority", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		like := authorityLike(s.Operational.Certificate)
		good := pkitest.ForgeAuthority(t, s.Root, like)
		like = authorityLike(s.Operational.Certificate)
		like.IsCA = false
		bad := pkitest.ForgeAuthority(t, s.Root, like)
		return pkitest.Forge(t, bad, gatewayLike(t, s.Authorities, "GW-0001"), bad.Certificate),
			pkitest.Forge(t, good, gatewayLike(t, s.Authorities, "GW-0001"), good.Certificate)
	})
}

func TestAttackGatewayIssuesForItself(t *testing.T) { // a gateway's own certificate as an authority
	row(t, "is not an authority", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		own := pkitest.ForgeAuthority(t, s.Operational, gatewayLike(t, s.Authorities, "GW-0001"))
		return pkitest.Forge(t, own, gatewayLike(t, s.Authorities, "GW-0002"), own.Certificate, s.Operational.Certificate),
			pkitest.Forge(t, s.Operational, gatewayLike(t, s.Authorities, "GW-0002"), s.Operational.Certificate)
	})
}

func TestAttackGatewayPathLengthExceeded(t *testing.T) {
	row(t, "may not have that many authorities below it", func(t *testing.T, s *stage) (attack, control tls.Certificate) {
		below := pkitest.ForgeAuthority(t, s.Operational, authorityLike(s.Operational.Certificate))
		beside := pkitest.ForgeAuthority(t, s.Root, authorityLike(s.Operational.Certificate))
		return pkitest.Forge(t, below, gatewayLike(t, s.Authorities, "GW-0001"), below.Certificate, s.Operational.Certificate),
			pkitest.Forge(t, beside, gatewayLike(t, s.Authorities, "GW-0001"), beside.Certificate)
	})
}

func TestAttackServerSelfSigned(t *testing.T) {
	serverRow(t, "it comes from another authority", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		return selfSigned(t, serverLike(t, a, "localhost")), a.Server(t, "localhost")
	})
}

func TestAttackServerOfAnotherAuthority(t *testing.T) {
	serverRow(t, "it comes from another authority", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		return pkitest.New(t).Server(t, "localhost"), a.Server(t, "localhost")
	})
}

func forgedServer(t *testing.T, says string, fault func(c *x509.Certificate) *x509.Certificate) {
	t.Helper()
	serverRow(t, says, func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		return pkitest.Forge(t, a.Servers, fault(serverLike(t, a, "localhost")), a.Servers.Certificate),
			pkitest.Forge(t, a.Servers, serverLike(t, a, "localhost"), a.Servers.Certificate)
	})
}

func TestAttackServerExpired(t *testing.T)     { forgedServer(t, "it expired on", expired) }
func TestAttackServerNotYetValid(t *testing.T) { forgedServer(t, "it is valid only from", notYet) }

func TestAttackServerWrongName(t *testing.T) {
	forgedServer(t, "it is for elsewhere.example, not for localhost", func(c *x509.Certificate) *x509.Certificate {
		c.DNSNames = []string{"elsewhere.example"}
		return c
	})
}

func TestAttackServerNameInTheCommonNameAlone(t *testing.T) {
	forgedServer(t, "not for localhost", func(c *x509.Certificate) *x509.Certificate {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)}
		return c
	})
}

func TestAttackServerWithoutUsage(t *testing.T) {
	forgedServer(t, "does not say that it is for a server", func(c *x509.Certificate) *x509.Certificate {
		c.ExtKeyUsage = nil
		return c
	})
}

func TestAttackServerWrongUsage(t *testing.T) {
	forgedServer(t, "is not for this use", func(c *x509.Certificate) *x509.Certificate {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		return c
	})
}

func TestAttackServerWithTheKeyOfAStolenGateway(t *testing.T) {
	serverRow(t, "not for localhost", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		return a.Enrolled(t, "GW-0002"), a.Server(t, "localhost")
	})
}

func TestAttackServerByTheGatewaysAuthority(t *testing.T) {
	serverRow(t, "", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		return pkitest.Forge(t, a.Operational, serverLike(t, a, "localhost"), a.Operational.Certificate),
			pkitest.Forge(t, a.Servers, serverLike(t, a, "localhost"), a.Servers.Certificate)
	})
}

func TestAttackServerBreachOfTheNameConstraint(t *testing.T) {
	const name = "gw-0001.gw.penstock.internal"
	serverRow(t, "may not issue for that name", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		like := serverLike(t, a, "localhost")
		like.DNSNames = []string{"localhost", name}
		return pkitest.Forge(t, a.Servers, like, a.Servers.Certificate), a.Server(t, "localhost")
	})
}

func TestAttackServerIntermediateWithoutCABit(t *testing.T) {
	serverRow(t, "is not an authority", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		good := pkitest.ForgeAuthority(t, a.Root, authorityLike(a.Servers.Certificate))
		like := authorityLike(a.Servers.Certificate)
		like.IsCA = false
		bad := pkitest.ForgeAuthority(t, a.Root, like)
		return pkitest.Forge(t, bad, serverLike(t, a, "localhost"), bad.Certificate),
			pkitest.Forge(t, good, serverLike(t, a, "localhost"), good.Certificate)
	})
}

func TestAttackServerPathLengthExceeded(t *testing.T) {
	serverRow(t, "may not have that many authorities below it", func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate) {
		below := pkitest.ForgeAuthority(t, a.Servers, authorityLike(a.Servers.Certificate))
		beside := pkitest.ForgeAuthority(t, a.Root, authorityLike(a.Servers.Certificate))
		return pkitest.Forge(t, below, serverLike(t, a, "localhost"), below.Certificate, a.Servers.Certificate),
			pkitest.Forge(t, beside, serverLike(t, a, "localhost"), beside.Certificate)
	})
}
