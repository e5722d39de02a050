package courier

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// TestKeptHTTP2ConnectionIsClosed closes, in several ways, an HTTP/2 connection as it is used again.
func TestKeptHTTP2ConnectionIsClosed(t *testing.T) {
	for name, test := range map[string]struct {
		second func(*http2.Framer, uint32)
		err    string
		conns  int64
	}{
		"without a word": {second: func(*http2.Framer, uint32) {}, conns: 2},
		"by GOAWAY": {
			second: func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(1, http2.ErrCodeNo, nil) }, conns: 2,
		},
		"for this one request": {
			second: func(f *http2.Framer, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeInternal); hangFrames(f) },
			err:    "waiting for the response: the stream was reset: INTERNAL_ERROR", conns: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int64
			certificate := httptest.NewUnstartedServer(nil)
			certificate.StartTLS()
			config := certificate.TLS.Clone()
			certificate.Close()
			config.NextProtos = []string{"h2"}
			address := listen(t, func(c net.Conn) {
				conns.Add(1)
				serveFrames(tls.Server(c, config), test.second)
			})
			dst, _ := destination(t, "https://"+address)
			wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
			if a := attempt(t, dst, "{}"); a.Error != test.err || (a.Status == 200) != (test.err == "") {
				t.Errorf("status %d, error %q", a.Status, a.Error)
			}
			// After a GOAWAY net/http may dial one more than it needs.
			if n := conns.Load(); n != test.conns && (name != "by GOAWAY" || n != test.conns+1) {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// serveFrames answers the first request of an HTTP/2 connection, and leaves the second to a function before it closes.
func serveFrames(c net.Conn, second func(*http2.Framer, uint32)) {
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings()
	for requests := 0; ; {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			_ = f.WritePing(true, frame.Data)
		case *http2.HeadersFrame:
			if requests++; requests == 2 {
				second(f, frame.StreamID)
				return
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: frame.StreamID, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x88}, // :status 200
			})
		}
	}
}

func hangFrames(f *http2.Framer) {
	for {
		if _, err := f.ReadFrame(); err != nil {
			return
		}
	}
}
