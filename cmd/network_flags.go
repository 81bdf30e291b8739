package cmd

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"switchhook/engine"
	"switchhook/engine/target"
)

// accessFlags control access to the API, and the quotas of accounts.
type accessFlags struct {
	TLSCert        string   `name:"tls-cert" help:"Serve TLS with this certificate, a PEM file with the chain. It is read again when it changes, and on SIGHUP." type:"path" placeholder:"FILE"`
	TLSKey         string   `name:"tls-key" help:"The certificate's private key, a PEM file." type:"path" placeholder:"FILE"`
	TrustedProxies []string `help:"Address ranges of proxies whose X-Forwarded-For is trusted as the client's address." placeholder:"CIDR"`

	MaxSubscriptions   int   `help:"Maximum subscriptions of an account without its own quota; 0 is no limit." default:"0" placeholder:"N" min:"0" max:"1000000000"`
	MaxEventsPerSecond int   `help:"Maximum events a second of an account without its own quota; 0 is no limit." default:"0" placeholder:"N" min:"0" max:"1000000000"`
	MaxStoredBytes     int64 `help:"Maximum bytes stored for an account without its own quota: events, deliveries, configuration, audit log; 0 is no limit." default:"0" placeholder:"BYTES" min:"0" max:"1125899906842624"`
}

// quota returns the quotas that the flags set.
func (f *accessFlags) quota() engine.Quota {
	return engine.Quota{Subscriptions: f.MaxSubscriptions, EventsPerSecond: f.MaxEventsPerSecond, StoredBytes: f.MaxStoredBytes}
}

// certificate returns the certificate of the API; nil: without TLS.
func (f *accessFlags) certificate() (*certificate, error) {
	switch {
	case f.TLSCert == "" && f.TLSKey == "":
		return nil, nil
	case f.TLSKey == "":
		return nil, errors.New("--tls-cert is given without --tls-key, the file of its private key")
	case f.TLSCert == "":
		return nil, errors.New("--tls-key is given without --tls-cert, the file of the certificate")
	}
	return loadCertificate(f.TLSCert, f.TLSKey)
}

// targetFlags control the addresses that deliveries may go to.
type targetFlags struct {
	AllowTargets []string `help:"Private or special address ranges that deliveries may go to, such as 10.0.0.0/8, on every port." placeholder:"CIDR"`
	DenyTargets  []string `help:"Address ranges, or host names with their subdomains, that deliveries may never go to." placeholder:"CIDR|NAME"`
	TargetPorts  []uint16 `help:"Ports of public addresses that deliveries may go to." default:"80,443,8080,8443" placeholder:"PORT" min:"1" max:"65535"`
	AllowPublic  bool     `name:"allow-public-host" help:"Allow targets below --public-url, for a host that also serves other things. Loops still end, see --max-hops."`
	HTTPSOnly    bool     `name:"https-only" help:"Refuse targets that are not https."`
	TargetProxy  string   `help:"Proxy that all deliveries go through, such as http://127.0.0.1:4750. Proxy variables of the environment are ignored." placeholder:"URL"`
}

var hostName = regexp.MustCompile(`^[^\s/:@?#\[\]]*[^\s/:@?#\[\]0-9.][^\s/:@?#\[\]]*$`)

// policy validates the flags; errors name them.
func (f *targetFlags) policy(dev bool) (p target.Policy, err error) {
	p = target.Policy{Ports: f.TargetPorts, HTTPS: f.HTTPSOnly}
	for _, text := range f.AllowTargets {
		if hostName.MatchString(text) && !strings.Contains(text, ":") {
			return p, fmt.Errorf("--allow-targets: %q is a host name, whose owner can point it to any address: give the address range", text)
		}
	}
	if p.Allow, err = prefixes("--allow-targets", f.AllowTargets); err != nil {
		return p, err
	}
	var ranges []string
	for _, text := range f.DenyTargets {
		if hostName.MatchString(text) {
			p.DenyHosts = append(p.DenyHosts, strings.TrimPrefix(text, "*."))
		} else {
			ranges = append(ranges, text)
		}
	}
	if p.Deny, err = prefixes("--deny-targets", ranges); err != nil {
		return p, err
	}
	if dev {
		p.Allow = append(p.Allow, target.Loopback...)
	}
	if f.TargetProxy == "" {
		return p, nil
	}
	p.Proxy, err = url.Parse(f.TargetProxy)
	if err != nil || p.Proxy.Host == "" || p.Proxy.Scheme != "http" && p.Proxy.Scheme != "https" {
		return p, fmt.Errorf("--target-proxy: %q is not the URL of a proxy such as http://127.0.0.1:4750", f.TargetProxy)
	}
	return p, nil
}

func prefixes(flag string, texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		if !strings.Contains(text, "/") {
			if ip, err := netip.ParseAddr(text); err == nil {
				list = append(list, netip.PrefixFrom(ip, ip.BitLen()))
				continue
			}
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an address range such as 10.0.0.0/8", flag, text)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}
