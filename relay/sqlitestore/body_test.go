package sqlitestore

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestBodies(t *testing.T) {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	words := []byte(`{"words":[` + strings.Repeat(`{"word":"la","startS":1.5,"endS":2.25},`, 2000) + `{}]}`)
	var packer bodyPacker
	for name, c := range map[string]struct {
		body    []byte
		packing int64
	}{
		"empty":                {nil, asReceived},
		"short":                {words[:143], asReceived},
		"just below the bound": {words[:compressFrom-1], asReceived},
		"at the bound":         {words[:compressFrom], compressed},
		"large":                {words, compressed},
		"noise":                {noise, asReceived},
	} {
		stored, packing := packer.pack(c.body)
		if packing != c.packing {
			t.Errorf("%s: packing %d, want %d", name, packing, c.packing)
		}
		if packing == compressed && len(stored) > len(c.body)/2 {
			t.Errorf("%s: %d bytes are stored as %d", name, len(c.body), len(stored))
		}
		if body, err := unpackBody(stored, packing); err != nil || !bytes.Equal(body, c.body) {
			t.Errorf("%s: %d bytes come back as %d, %v", name, len(c.body), len(body), err)
		}
	}
}

func TestBodiesThatCannotBeRead(t *testing.T) {
	large := s2.Encode(nil, make([]byte, relay.MaxBodyLimit+1))
	for name, stored := range map[string][]byte{"cut": s2.Encode(nil, make([]byte, compressFrom))[:8], "too large": large, "none": nil} {
		if body, err := unpackBody(stored, compressed); err == nil {
			t.Errorf("%s: %d bytes and no error", name, len(body))
		}
	}
	if _, err := unpackBody(nil, 2); err == nil {
		t.Error("a packing of a later version is read")
	}
}
