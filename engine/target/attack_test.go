package target_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"switchhook/engine/target"
	"switchhook/engine/target/targettest"
)

// names is a DNS server on loopback. Each name has a list of answers, returned one after the
// other; the last one is repeated.
type names struct {
	mu      sync.Mutex
	answers map[string][]string
	asked   map[string]int
}

// serveNames starts a DNS server and returns a resolver that queries it.
func serveNames(t *testing.T, answers map[string][]string) (*names, *net.Resolver) {
	t.Helper()
	n := &names{answers: answers, asked: map[string]int{}}
	return n, targettest.Names(t, func(q dnsmessage.Question, reply *dnsmessage.Message) []byte {
		return targettest.Addresses(q, reply, n.answer(q)...)
	})
}

// answer returns the addresses of a name of the type in the question. The next answer follows
// once both types were asked for.
func (n *names) answer(q dnsmessage.Question) (found []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	list := n.answers[name]
	if len(list) == 0 {
		return nil
	}
	turn := min(n.asked[name]/2, len(list)-1)
	n.asked[name]++
	for _, text := range strings.Fields(list[turn]) {
		ip := netip.MustParseAddr(text)
		if (q.Type == dnsmessage.TypeA) == ip.Is4() && (q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA) {
			found = append(found, ip)
		}
	}
	return found
}

func (n *names) turns(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name] / 2
}

// counting is a server on loopback that counts requests.
func counting(t *testing.T, answer http.HandlerFunc) (port string, hits func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	_, port, _ = strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	return port, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func post(t *testing.T, rt http.RoundTripper, url string) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	res, err := rt.RoundTrip(req)
	if err == nil {
		t.Cleanup(func() { res.Body.Close() })
	}
	return res, err
}

func isRefused(err error) bool {
	var refused *target.RefusedError
	return errors.As(err, &refused)
}

func TestGuard_NamesOfPrivateAddressesAreRefused(t *testing.T) {
	port, hits := counting(t, nil)
	inside := map[string]string{
		"loopback": "127.0.0.1", "loopback6": "::1", "any": "0.0.0.0", "any6": "::", "ten": "10.0.0.1", "private": "192.168.1.1", "private12": "172.16.0.1",
		"shared": "100.64.0.1", "metadata": "169.254.169.254", "metadata6": "fd00:ec2::254", "alibaba": "100.100.100.200", "oracle": "192.0.0.192", "azure": "168.63.129.16",
		"linklocal": "fe80::1", "mapped": "::ffff:127.0.0.1", "compatible": "::127.0.0.1", "nat64": "64:ff9b::7f00:1", "nat64local": "64:ff9b:1::7f00:1", "sixtofour": "2002:7f00:1::1", "teredo": "2001:0:7f00:1::1",
		"benchmark": "198.18.0.1", "reserved": "240.0.0.1", "broadcast": "255.255.255.255", "multicast": "224.0.0.1", "sitelocal": "fec0::1", "documentation": "2001:db8::1",
		"one-of-two": "8.8.8.8 127.0.0.1", "one-of-two6": "2001:4860:4860::8888 ::1",
	}
	answers := map[string][]string{}
	for name, ips := range inside {
		answers[name+".test"] = []string{ips}
	}
	_, resolver := serveNames(t, answers)
	g := target.NewGuard(target.Policy{AnyPort: true, Resolver: resolver})
	rt := target.Transport(g, 1)
	defer rt.CloseIdleConnections()
	for name := range inside {
		for _, host := range []string{name + ".test", name + ".test.", strings.ToUpper(name) + ".test", name + "。test"} {
			if err := g.CheckURL(context.Background(), "http://"+host+":"+port+"/"); !isRefused(err) {
				t.Errorf("CheckURL lets %s pass: %v", host, err)
			}
			if strings.HasPrefix(name, "one-of-two") {
				continue // at dial time only the address that is dialled counts, and 8.8.8.8 is not ours to knock at
			}
			if _, err := post(t, rt, "http://"+host+":"+port+"/"); !isRefused(err) {
				t.Errorf("%s is dialled: %v", host, err)
			}
		}
	}
	if hits() > 0 {
		t.Errorf("%d requests arrived", hits())
	}
}

func TestGuard_DNSRebinding(t *testing.T) {
	port, hits := counting(t, nil)
	server, resolver := serveNames(t, map[string][]string{"rebinding.test": {"8.8.8.8", "127.0.0.1"}})
	g := target.NewGuard(target.Policy{AnyPort: true, Resolver: resolver})
	rt := target.Transport(g, 1)
	defer rt.CloseIdleConnections()
	url := "http://rebinding.test:" + port + "/"
	if err := g.CheckURL(context.Background(), url); err != nil {
		t.Fatalf("public at first, and refused: %v", err)
	}
	if _, err := post(t, rt, url); !isRefused(err) {
		t.Errorf("it was dialled: %v", err)
	}
	if n := server.turns("rebinding.test"); n < 2 || hits() > 0 {
		t.Errorf("asked %d times; %d requests arrived", n, hits())
	}
	// Control: with loopback allowed, the request arrives.
	open := target.Transport(target.NewGuard(target.Policy{Allow: target.Loopback, Resolver: resolver}), 1)
	defer open.CloseIdleConnections()
	if _, err := post(t, open, url); err != nil || hits() != 1 {
		t.Errorf("allowed, and not reached: %v", err)
	}
}

func TestGuard_UnusualAddressSpellings(t *testing.T) {
	g := target.NewGuard(target.Policy{AnyPort: true})
	for _, host := range []string{
		"2130706433", "017700000001", "0x7f000001", "0x7f.1", "0x7F.0.0.1", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "0", "0x0", "00.0.0.0", "1.2.3.4.5", "256.256.256.256",
		"127。0。0。1", "127．0．0．1", "①②⑦.0.0.1", "１２７.0.0.1", "example.0x7f", "example.123", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::1%25lo]", "[::]", "0.0.0.0",
	} {
		if err := g.CheckURL(context.Background(), "http://"+host+"/"); !isRefused(err) {
			t.Errorf("%s passes: %v", host, err)
		}
	}
	for _, host := range []string{"8.8.8.8", "[2001:4860:4860::8888]"} {
		if err := g.CheckURL(context.Background(), "http://"+host+"/"); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestParse_InvalidHostNames(t *testing.T) {
	g := target.NewGuard(target.Policy{})
	long := strings.Repeat("a", 63)
	for host, passes := range map[string]bool{
		"a..b": false, ".a": false, "..": false, long + "a.example": false, strings.Repeat(long+".", 4) + "example": false, "xn--zzzzzzzzz999999.example": false,
		long + ".example": true, "my_service": true, "EXAMPLE.com": true, "example.com.": true, "xn--bcher-kva.example": true, "a-.example": true,
	} {
		if _, err := g.ParseURL("https://" + host + "/"); isRefused(err) == passes {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestGuard_DenyHostsIncludeSubdomains(t *testing.T) {
	_, resolver := serveNames(t, nil)
	g := target.NewGuard(target.Policy{DenyHosts: []string{"Corp.Example.", "bücher.example", "xn--exmple-cua.test"}, Resolver: resolver})
	for host, denied := range map[string]bool{
		"corp.example": true, "CORP.example": true, "a.b.corp.example": true, "corp.example.": true, "corp。example": true, "xn--bcher-kva.example": true, "bücher.example": true, "exämple.test": true,
		"notcorp.example": false, "corp.example.org": false, "example": false,
	} {
		if err := g.CheckURL(context.Background(), "https://"+host+"/"); isRefused(err) != denied {
			t.Errorf("%s: denied should be %v: %v", host, denied, err)
		}
	}
}

func TestTransport_RedirectsAreNotFollowed(t *testing.T) {
	inner, innerHits := counting(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		port, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:"+inner+"/inside")
			w.WriteHeader(status)
		})
		rt := target.Transport(target.NewGuard(target.Policy{Allow: target.Loopback}), 1)
		res, err := post(t, rt, "http://127.0.0.1:"+port+"/")
		if err != nil || res.StatusCode != status {
			t.Errorf("%d: %v", status, err)
		}
		rt.CloseIdleConnections()
	}
	if innerHits() > 0 {
		t.Errorf("%d redirects were followed", innerHits())
	}
}

func TestGuard_OwnAddressesAreRefused(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	everywhere := l.Addr().(*net.TCPAddr).AddrPort()
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	g := target.NewGuard(target.Policy{Allow: all, Own: []netip.AddrPort{everywhere, netip.MustParseAddrPort("127.0.0.1:999"), netip.MustParseAddrPort("[::1]:998")}})
	port := netip.AddrPortFrom(netip.Addr{}, everywhere.Port()).Port()
	at := func(ip string, port uint16) string { return netip.AddrPortFrom(netip.MustParseAddr(ip), port).String() }
	for addr, own := range map[string]bool{
		at("127.0.0.1", port): true, at("::1", port): true, at("0.0.0.0", port): true, at("::", port): true, at("127.9.9.9", port): true, at("::ffff:127.0.0.1", port): true,
		at("127.0.0.1", port+1): false, "127.0.0.1:999": true, "0.0.0.0:999": true, "[::ffff:127.0.0.1]:999": true, "127.0.0.2:999": false, "[::1]:999": false, "[::1]:998": true, "[::]:998": true,
	} {
		if err := g.Control(network(addr), addr, nil); isRefused(err) != own {
			t.Errorf("%s: own should be %v: %v", addr, own, err)
		}
	}
	rt := target.Transport(g, 1)
	defer rt.CloseIdleConnections()
	if _, err := post(t, rt, "http://localhost:"+strings.Split(at("127.0.0.1", port), ":")[1]+"/"); !isRefused(err) {
		t.Errorf("the router would deliver to itself: %v", err)
	}
}

func TestTransport_IgnoresProxyEnvironment(t *testing.T) {
	port, hits := counting(t, nil)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:"+port)
	}
	_, resolver := serveNames(t, map[string][]string{"inside.test": {"10.0.0.1"}})
	rt := target.Transport(target.NewGuard(target.Policy{Resolver: resolver}), 1)
	defer rt.CloseIdleConnections()
	for _, url := range []string{"http://inside.test/", "https://inside.test/"} {
		if _, err := post(t, rt, url); !isRefused(err) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if hits() > 0 {
		t.Errorf("the proxy of the environment was asked %d times", hits())
	}
}

func TestTransport_ProxyGetsAllowedTargetsOnly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	served := make(chan struct{})
	go func() { // it answers like a target, so that nothing leaves this machine
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				mu.Lock()
				asked = append(asked, req.Method+" "+req.RequestURI+" "+req.Header.Get("Proxy-Authorization"))
				mu.Unlock()
				answer := "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
				if req.Method == http.MethodConnect {
					answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
				}
				io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	defer func() {
		l.Close()
		<-served
	}()
	_, resolver := serveNames(t, map[string][]string{"public.test": {"8.8.8.8"}, "inside.test": {"10.0.0.1"}})
	proxy := &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("me", "pw")}
	rt := target.Transport(target.NewGuard(target.Policy{Proxy: proxy, Resolver: resolver}), 1)
	defer rt.CloseIdleConnections()
	for _, url := range []string{
		"http://inside.test/", "https://inside.test/", "http://127.0.0.1/", "http://2130706433/", "http://127。0。0。1/", "https://127。0。0。1/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/", "http://public.test:22/", "http://localhost/",
	} {
		if _, err := post(t, rt, url); !isRefused(err) {
			t.Errorf("%s: %v", url, err)
		}
	}
	mu.Lock()
	if len(asked) > 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	mu.Unlock()
	if _, err := post(t, rt, "http://public.test/hook?"+strings.Repeat("x", 4000)); err != nil {
		t.Error(err)
	}
	if _, err := post(t, rt, "https://public.test/hook"); err == nil || isRefused(err) {
		t.Errorf("the proxy's refusal is told as %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || !strings.HasPrefix(asked[0], "POST http://public.test/hook?xxx") || !strings.HasPrefix(asked[1], "CONNECT public.test:443") || !strings.HasSuffix(asked[0], "Basic bWU6cHc=") || !strings.HasSuffix(asked[1], "Basic bWU6cHc=") {
		t.Errorf("the proxy was asked for %.200v", asked)
	}
}
