package mail

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Digest identifies the content of a message whatever store holds it:
// SHA-256 over its text form. A body from the wire becomes text by taking away
// exactly one CR before each LF and closing the last line with an LF; every
// other CR is text. What we have stored is text already and is hashed as it
// is, never folded again, so the digest of a stored message equals the digest
// taken when it came. Mail of other programs is folded when it is read.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest undoes String.
func ParseDigest(s string) (d Digest, err error) {
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("digest of %d characters", len(s))
	}
	_, err = hex.Decode(d[:], []byte(s))
	return d, err
}

// Kinds of line ends in a message as it was received.
const (
	EndsCRLF  = "crlf"
	EndsLF    = "lf"
	EndsMixed = "mixed"
	EndsKept  = "kept" // too mixed to note down: the text form is what was received
)

// MostRuns is how many runs Ends notes before the body is kept as received.
const MostRuns = 1 << 16

// Ends tells what the text form forgets, so that the bytes received can be
// rebuilt. It belongs to a location, not to a message: the same text may have
// come with different ends from two places.
type Ends struct {
	Kind string   // EndsCRLF, EndsLF, EndsMixed or EndsKept
	Runs []uint32 // for EndsMixed: lines ending in CRLF, then in LF, and so on
	Open bool     // the last line had no end
}

// String is a short form for storing: "crlf", "lf-open", "mixed:3,1,7".
func (e Ends) String() string {
	var b strings.Builder
	b.WriteString(e.Kind)
	if e.Open {
		b.WriteString("-open")
	}
	for i, n := range e.Runs {
		if i == 0 {
			b.WriteByte(':')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(n), 10))
	}
	return b.String()
}

// ParseEnds undoes String.
func ParseEnds(s string) (Ends, error) {
	kind, runs, _ := strings.Cut(s, ":")
	var e Ends
	e.Kind, e.Open = strings.CutSuffix(kind, "-open")
	switch e.Kind {
	case EndsCRLF, EndsLF, EndsMixed, EndsKept:
	default:
		return Ends{}, fmt.Errorf("unknown line ends %q", s)
	}
	if runs == "" {
		return e, nil
	}
	for r := range strings.SplitSeq(runs, ",") {
		n, err := strconv.ParseUint(r, 10, 32)
		if err != nil {
			return Ends{}, fmt.Errorf("line ends %q: %w", s, err)
		}
		e.Runs = append(e.Runs, uint32(n))
	}
	return e, nil
}

// ErrTooMixed is returned by Folder.Append when a body changes its line ends
// more often than MostRuns. What was appended until then can be turned back
// with Ends and Restore; it and the rest are then kept as received.
var ErrTooMixed = errors.New("line ends change too often")

// A Folder folds a body as it comes from the wire into its text form, piece by
// piece. The zero Folder is ready.
type Folder struct {
	runs []uint32 // as in Ends; the last one is growing
	cr   bool     // a CR at the end of the last piece is held back
	open bool     // text was appended since the last LF
	from bool     // a line begins as a separator of an mbox does, or may
}

// Plain reports whether no line of the text so far begins with "From " behind any
// number of ">". It may say no where that is so.
func (f *Folder) Plain() bool { return !f.from }

// separates reports whether a line that begins with p does, or may when all of it
// is seen.
func separates(p []byte) bool {
	p = bytes.TrimLeft(p, ">")
	if len(p) < len(from) {
		return bytes.HasPrefix(from, p)
	}
	return bytes.HasPrefix(p, from)
}

var from = []byte("From ")

// Append folds src and appends the text to dst. It tells how much of src it
// took: all, but for ErrTooMixed. Nothing of src is kept.
func (f *Folder) Append(dst, src []byte) (text []byte, took int, err error) {
	all := len(src)
	if f.cr && len(src) > 0 {
		f.cr = false
		if src[0] == '\n' {
			dst = append(dst, '\n')
			src = src[1:]
			if !f.line(0) {
				return dst, 1, ErrTooMixed
			}
		} else {
			dst = append(dst, '\r')
			f.open = true
		}
	}
	for len(src) > 0 {
		if c := src[0]; (c == '>' || c == 'F') && !f.open {
			f.from = f.from || separates(src)
		}
		i := bytes.IndexByte(src, '\n')
		if i < 0 {
			n := len(src)
			if src[n-1] == '\r' {
				f.cr = true
				n--
			}
			f.open = f.open || n > 0
			return append(dst, src[:n]...), all, nil
		}
		kind := 1
		if i > 0 && src[i-1] == '\r' {
			kind = 0
			dst = append(dst, src[:i-1]...)
			dst = append(dst, '\n')
		} else {
			dst = append(dst, src[:i+1]...)
		}
		src = src[i+1:]
		if !f.line(kind) {
			return dst, all - len(src), ErrTooMixed
		}
	}
	return dst, all, nil
}

// line notes the end of a line: 0 for CRLF, 1 for LF.
func (f *Folder) line(kind int) bool {
	f.open = false
	last := len(f.runs) - 1
	switch {
	case last >= 0 && last&1 == kind && f.runs[last] < 1<<32-1:
		f.runs[last]++
		return true
	case last < 0 && kind == 0:
		f.runs = append(f.runs, 1)
	case last < 0:
		f.runs = append(f.runs, 0, 1)
	case last&1 == kind: // four thousand million lines of one kind
		f.runs = append(f.runs, 0, 1)
	default:
		f.runs = append(f.runs, 1)
	}
	return len(f.runs) <= MostRuns
}

// Close ends the body: a CR held back is text, and a last line without an end
// gets one.
func (f *Folder) Close(dst []byte) ([]byte, Ends) {
	if f.cr {
		f.cr = false
		f.open = true
		dst = append(dst, '\r')
	}
	e := f.Ends()
	if f.open {
		dst = append(dst, '\n')
		e.Open = true
	}
	return dst, e
}

// Ends describes the lines folded so far. The line that is open is not one of
// them.
func (f *Folder) Ends() Ends {
	switch {
	case len(f.runs) <= 1:
		return Ends{Kind: EndsCRLF}
	case len(f.runs) == 2 && f.runs[0] == 0:
		return Ends{Kind: EndsLF}
	}
	return Ends{Kind: EndsMixed, Runs: slices.Clone(f.runs)}
}

// Size is how many bytes Restore makes of a text form of so many bytes and
// lines.
func (e Ends) Size(text, lines int64) int64 {
	if e.Open && text > 0 {
		text, lines = text-1, lines-1
	}
	switch e.Kind {
	case EndsCRLF:
		return text + lines
	case EndsMixed:
		return text + e.crlfs(lines)
	}
	return text
}

// crlfs is how many of the first lines end in CRLF. Lines behind the last run
// end as it does.
func (e Ends) crlfs(lines int64) (n int64) {
	kind := 0
	for i, run := range e.Runs {
		k := min(int64(run), lines)
		if kind = i & 1; kind == 0 {
			n += k
		}
		lines -= k
	}
	if kind == 0 {
		n += lines
	}
	return n
}

// Restore gives a writer that takes the text form and writes the bytes as they
// were received to w. Close must be called: it settles the last line.
func (e Ends) Restore(w io.Writer) io.WriteCloser {
	return &restorer{w: w, ends: e, left: firstRun(e)}
}

func firstRun(e Ends) uint32 {
	if len(e.Runs) > 0 {
		return e.Runs[0]
	}
	return 0
}

type restorer struct {
	w    io.Writer
	ends Ends
	run  int    // of ends.Runs
	left uint32 // lines left in it
	held bool   // an LF of the text is held back: it may be the last
}

// pieces are buffers that a text is restored in, piece by piece: a message is
// never held a second time.
var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

const piece = 32 << 10

func (r *restorer) Write(p []byte) (int, error) {
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	for done := 0; done < len(p); {
		part := p[done:min(done+piece/2-2, len(p))] // each LF may become two bytes
		if _, err := r.w.Write(r.restore(buf[:0], part)); err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(p), nil
}

// restore appends a part of the text to dst as it was received.
func (r *restorer) restore(dst, p []byte) []byte {
	for len(p) > 0 {
		if r.held {
			r.held = false
			if r.crlf() {
				dst = append(dst, '\r')
			}
			dst = append(dst, '\n')
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i]...)
		r.held = true
		p = p[i+1:]
	}
	return dst
}

// crlf takes the next line end off the runs.
func (r *restorer) crlf() bool {
	switch r.ends.Kind {
	case EndsCRLF:
		return true
	case EndsMixed:
		for r.left == 0 && r.run+1 < len(r.ends.Runs) {
			r.run++
			r.left = r.ends.Runs[r.run]
		}
		if r.left > 0 {
			r.left--
		}
		return r.run&1 == 0
	}
	return false
}

func (r *restorer) Close() error {
	if !r.held || r.ends.Open {
		return nil
	}
	r.held = false
	end := "\n"
	if r.crlf() {
		end = "\r\n"
	}
	_, err := io.WriteString(r.w, end)
	return err
}
