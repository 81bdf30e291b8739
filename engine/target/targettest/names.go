// Package targettest provides a DNS server for tests of targets.
package targettest

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Names starts a DNS server on loopback, which stops with the test, and returns a resolver that
// queries it. answer is called for one question after the other, with a reply that contains it;
// the server sends what answer returns, or nothing if that is nil.
func Names(t testing.TB, answer func(q dnsmessage.Question, reply *dnsmessage.Message) []byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if query.Unpack(buffer[:size]) != nil || len(query.Questions) != 1 {
				continue
			}
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true}, Questions: query.Questions}
			if text := answer(query.Questions[0], &reply); text != nil {
				conn.WriteTo(text, from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// Addresses adds addresses, all of the type that q asks for, to a reply and returns it packed, or
// nil if it can't be packed.
func Addresses(q dnsmessage.Question, reply *dnsmessage.Message, addresses ...netip.Addr) []byte {
	for _, ip := range addresses {
		body := dnsmessage.ResourceBody(&dnsmessage.AAAAResource{AAAA: ip.As16()})
		if q.Type == dnsmessage.TypeA {
			body = &dnsmessage.AResource{A: ip.As4()}
		}
		reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: body})
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}
