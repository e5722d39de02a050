// Package dnstest has a name server on loopback, for consumers that move.
package dnstest

import (
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
	addresses map[string]netip.Addr
}

// Start starts a server, which the caller closes.
func Start() (*Server, error) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Address: socket.LocalAddr().String(), socket: socket, addresses: map[string]netip.Addr{}}
	s.serving.Go(s.serve)
	return s, nil
}

// Set sets the address of a name from now on.
func (s *Server) Set(name string, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[name] = address
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
	address, known := s.addresses[strings.TrimSuffix(q.Name.String(), ".")]
	s.mu.Unlock()
	switch {
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
			Body:   &dnsmessage.AResource{A: address.As4()},
		}}
	}
	return reply.Pack()
}
