package verifier

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
	"slices"
)

func checkSecrets(secrets []string) error {
	if len(secrets) == 0 {
		return errors.New("a verifier needs a secret")
	}
	if slices.Contains(secrets, "") {
		return errors.New("a secret must not be empty")
	}
	return nil
}

// anyMAC reports whether one of macs is the MAC of message under any of the keys. It tries all of them, so that the time
// does not show which one fits.
func anyMAC(newHash func() hash.Hash, keys []string, message []byte, macs [][]byte) bool {
	found := 0
	for _, key := range keys {
		h := hmac.New(newHash, []byte(key))
		h.Write(message)
		sum := h.Sum(nil)
		for _, mac := range macs {
			found |= subtle.ConstantTimeCompare(sum, mac)
		}
	}
	return found == 1
}

// anySum reports whether the SHA-256 of got is one of sums. Sums are of one length whatever the secrets are, which
// keeps the secrets' lengths from the clock.
func anySum(sums [][sha256.Size]byte, got string) bool {
	sum := sha256.Sum256([]byte(got))
	found := 0
	for i := range sums {
		found |= subtle.ConstantTimeCompare(sums[i][:], sum[:])
	}
	return found == 1
}
