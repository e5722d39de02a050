// Package dnstest runs a name server on loopback, for hosts that move.
package dnstest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers what the IPv4 addresses of names are. It knows nothing else.
type Server struct {
	Address string // host and port, over UDP

	socket  net.PacketConn
	serving sync.WaitGroup

	mu        sync.Mutex
	addresses map[string][]netip.Addr
}

// Start starts a server, which the caller closes.
func Start() (*Server, error) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Address: socket.LocalAddr().String(), socket: socket, addresses: map[string][]netip.Addr{}}
	s.serving.Go(s.serve)
	return s, nil
}

// Set sets the addresses of a name from now on. Each question is answered by the next of them, and by the last from then on.
func (s *Server) Set(name string, addresses ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[name] = addresses
}

// Resolver returns a resolver that asks this server alone.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.Address)
	}}
}

// Close ends the server.
func (s *Server) Close() error {
	err := s.socket.Close()
	s.serving.Wait()
	return err
}

func (s *Server) serve() {
	packet := make([]byte, 1<<10)
	for {
		n, client, err := s.socket.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer, err := s.answer(packet[:n]); err == nil {
			_, _ = s.socket.WriteTo(answer, client) // who is not answered asks again
		}
	}
}

// answer answers the first question of a query.
func (s *Server) answer(packet []byte) ([]byte, error) {
	var query dnsmessage.Message
	if err := query.Unpack(packet); err != nil {
		return nil, err
	}
	if len(query.Questions) == 0 {
		return nil, fmt.Errorf("query %d asks nothing", query.ID)
	}
	q := query.Questions[0]
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimSuffix(q.Name.String(), ".")
	addresses := s.addresses[name]
	switch {
	case len(addresses) == 0:
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		if len(addresses) > 1 {
			s.addresses[name] = addresses[1:]
		}
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
			Body:   &dnsmessage.AResource{A: addresses[0].As4()},
		}}
	}
	return reply.Pack()
}
