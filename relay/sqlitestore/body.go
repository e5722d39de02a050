package sqlitestore

import (
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// How the body of an event or of a variant is stored, in its row's packing.
const (
	asReceived int64 = 0
	compressed int64 = 1 // a block of S2: https://github.com/klauspost/compress/tree/master/s2
)

// compressFrom is from how many bytes on a body is compressed. Each byte is written to the log and once more to the database,
// which costs more CPU than to compress it. Shorter ones hardly get smaller.
const compressFrom = 256

// maxScratch bounds the memory that a bodyPacker keeps.
const maxScratch = 1 << 20

// bodyPacker packs one body after the other in the same memory.
type bodyPacker struct{ scratch []byte }

// pack returns a body as it is stored, and how, until the next one is packed. What hardly gets smaller stays as it is.
func (p *bodyPacker) pack(body []byte) (stored []byte, packing int64) {
	if len(body) < compressFrom || len(body) > relay.MaxBodyLimit {
		return body, asReceived
	}
	if n := s2.MaxEncodedLen(len(body)); n > len(p.scratch) {
		p.scratch = make([]byte, n)
	}
	stored = s2.Encode(p.scratch, body)
	if len(p.scratch) > maxScratch {
		p.scratch = nil
	}
	if len(stored) > len(body)-len(body)/8 {
		return body, asReceived
	}
	return stored, compressed
}

// unpackBody returns a body as it was received.
func unpackBody(stored []byte, packing int64) ([]byte, error) {
	switch packing {
	case asReceived:
		return stored, nil
	case compressed:
		n, err := s2.DecodedLen(stored)
		if err == nil && n > relay.MaxBodyLimit {
			err = fmt.Errorf("it says that it has %d bytes", n)
		}
		if err != nil {
			return nil, fmt.Errorf("a stored body cannot be read: %w", err)
		}
		body, err := s2.Decode(nil, stored)
		if err != nil {
			return nil, fmt.Errorf("a stored body cannot be read: %w", err)
		}
		return body, nil
	default:
		return nil, fmt.Errorf("a body is stored in the way %d, which this program does not know", packing)
	}
}
