package mbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"

	"mailhaul/source"
)

// A digest takes the digest of a text form (mail.Digest) while a message
// passes by as it was found, and counts its bytes.
type digest struct {
	h    hash.Hash
	size int64
	cr   bool // held back
	open bool
}

func newDigest() *digest { return &digest{h: sha256.New()} }

func (d *digest) Write(p []byte) (int, error) {
	n := len(p)
	d.size += int64(n)
	if d.cr && n > 0 {
		if d.cr = false; p[0] != '\n' {
			d.h.Write([]byte{'\r'})
		}
		d.open = true
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\r')
		if i < 0 {
			d.h.Write(p)
			d.open = p[len(p)-1] != '\n'
			break
		}
		d.h.Write(p[:i])
		d.open = true
		if i+1 == len(p) {
			d.cr = true
			break
		}
		if p[i+1] != '\n' {
			d.h.Write(p[i : i+1])
		}
		p = p[i+1:]
	}
	return n, nil
}

// sum ends the message, and begins the next one.
func (d *digest) sum() (sum [sha256.Size]byte) {
	if d.cr {
		d.h.Write([]byte{'\r'})
	}
	if d.cr || d.open {
		d.h.Write([]byte{'\n'})
	}
	d.h.Sum(sum[:0])
	d.h.Reset()
	*d = digest{h: d.h}
	return sum
}

// idOf is what the nth message with that digest in a file is known by.
func idOf(sum [sha256.Size]byte, nth int) source.ID {
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	if nth > 1 {
		id += "." + strconv.Itoa(nth)
	}
	return source.ID(id)
}
