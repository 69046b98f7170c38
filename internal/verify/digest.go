package verify

import (
	"crypto/sha256"
	"io"

	"mailhaul/internal/mail"
)

func digest(r io.Reader) (d mail.Digest, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	h.Sum(d[:0])
	return d, n, err
}
