package catalog

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// manifestName is the manifest's file in the archive's directory.
const manifestName = "mailhaul.manifest"

// A Line is one line of the manifest, a JSON object: what the mail itself does
// not tell. A later line about the same location (account, path, epoch, id)
// replaces the flags and labels of an earlier one, or all of it when it has a
// place; one with "removed" or "gone" and no place changes nothing else, and one
// with "accepted" is about a message that was not stored. The epoch of a folder's last line is its current one. Strings that are not UTF-8
// are percent-escaped and say so ("x").
type Line struct {
	Account string   `json:"account"`
	Path    string   `json:"path"`            // at the source
	Raw     string   `json:"raw,omitempty"`   // the server's own name of it, where it differs
	Role    string   `json:"role,omitempty"`  // of the folder: "sent"
	To      string   `json:"to,omitempty"`    // where its new mail goes in the archive, where that is not path
	Epoch   string   `json:"epoch"`           // UIDVALIDITY
	ID      string   `json:"id"`              // UID
	Escaped bool     `json:"x,omitempty"`     // raw and id are percent-escaped
	Size    int64    `json:"size,omitempty"`  // claimed
	Date    string   `json:"date,omitempty"`  // arrival, RFC 3339
	Flags   []string `json:"flags,omitempty"` // as on the server
	Labels  []string `json:"labels,omitempty"`
	Global  string   `json:"global,omitempty"` // EMAILID, X-GM-MSGID
	Digest  string   `json:"sha256,omitempty"` // of the text form
	Ends    string   `json:"ends,omitempty"`
	Text    int64    `json:"text,omitempty"`
	Lines   int64    `json:"lines,omitempty"`
	Folder  string   `json:"folder,omitempty"` // in the archive
	Place   string   `json:"place,omitempty"`
	Removed string   `json:"removed,omitempty"` // when it was removed from the server, RFC 3339
	Gone    bool     `json:"gone,omitempty"`    // a later listing lacked it

	Accepted string `json:"accepted,omitempty"` // when the user has said not to fetch it any more, RFC 3339; notAccepted: that it is to be fetched again
	Reason   string `json:"reason,omitempty"`   // why it could not be had
}

// notAccepted takes an acceptance back.
const notAccepted = "no"

// A ManifestHead is the first line.
type ManifestHead struct {
	Manifest int    `json:"mailhaul_manifest"` // version of the format
	Archive  string `json:"archive"`
	Format   string `json:"format"`
	Layout   string `json:"layout,omitempty"`
}

// A manifest is open for appending. It may lag behind the catalog, which
// notes how long it should be and how much of that is synced: when they disagree
// it is written anew, so a failed append costs nothing but that.
type manifest struct {
	f    *durable.File
	len  int64
	err  error
	dirt bool
	old  bool // it is due to be written anew
}

// openManifest opens the manifest, rewritten from the catalog where it is not
// as long as the catalog says.
func (c *Catalog) openManifest() (*manifest, error) {
	name := filepath.Join(c.home.Dir, manifestName)
	s, err := c.meta("manifest")
	if err != nil {
		return nil, c.trouble("manifest", err)
	}
	want, _ := strconv.ParseInt(s, 10, 64)
	fi, err := os.Lstat(name)
	whole := err == nil && fi.Mode().IsRegular() && fi.Size() == want
	if whole {
		if whole, err = c.lasting(name, want); err != nil {
			return nil, err
		}
	}
	if !whole {
		if want, err = c.writeManifest(name); err != nil {
			return nil, err
		}
	}
	f, err := durable.Append(name)
	if err != nil {
		return nil, noRoom(err, err)
	}
	return &manifest{f: f, len: want}, nil
}

// manifestSynced is the key of how much of the manifest is safe. Catalogs that
// are older than it do without.
const manifestSynced = "manifest synced"

// lasting reports whether the lines of the manifest that were not synced can be
// read. A power cut may leave its length and zeroes for its bytes.
func (c *Catalog) lasting(name string, size int64) (bool, error) {
	s, err := c.meta(manifestSynced)
	if err != nil {
		return false, c.trouble("manifest", err)
	}
	synced, err := strconv.ParseInt(s, 10, 64)
	if err != nil || synced == size {
		return s == "" || err == nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(io.NewSectionReader(f, synced, size-synced), 64<<10)
	for {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			return len(text) == 0, nil
		}
		if err != nil {
			return false, err
		}
		if _, err := parseLine(text); err != nil {
			return false, nil
		}
	}
}

// change runs f as one step, and adds to the manifest the lines that f tells. The
// caller holds mu.
func (c *Catalog) change(f func() error) error {
	c.lines = c.lines[:0]
	err := c.transact(func() error {
		if err := f(); err != nil || len(c.lines) == 0 || c.manifest.old {
			return err
		}
		return c.setMeta("manifest", strconv.FormatInt(c.manifest.len+int64(len(c.lines)), 10)) // how long it will be
	})
	if err == nil {
		c.manifest.append(c.lines)
	}
	if cap(c.lines) > mostLines {
		c.lines = nil
	}
	return err
}

// mostLines is how much memory for lines is kept from step to step.
const mostLines = 1 << 20

// tell adds a line within change.
func (c *Catalog) tell(l Line) { c.lines = appendLine(c.lines, l) }

// outdate notes, within a transaction, that lines of the manifest do not hold
// any more: the next Open writes it anew.
func (c *Catalog) outdate() error {
	c.manifest.old = true
	return c.setMeta("manifest", "-1")
}

func (m *manifest) append(lines []byte) {
	if len(lines) == 0 {
		return
	}
	m.len += int64(len(lines))
	m.dirt = true
	if m.err == nil {
		_, m.err = m.f.Write(lines)
	}
}

func (m *manifest) close() error {
	if m.dirt && m.err == nil {
		m.err = m.f.Sync()
	}
	if err := m.f.Close(); m.err == nil {
		m.err = err
	}
	if m.err != nil {
		return fmt.Errorf("the manifest is behind and will be written anew by the next run: %w", noRoom(m.err, m.err))
	}
	return nil
}

func appendLine(lines []byte, l Line) []byte {
	return append(append(lines, encode(l)...), '\n')
}

func reflagged(b *Box, ch Change) Line {
	l := lineFor(b, string(ch.ID))
	l.Flags, l.Labels = names(ch.Flags), ch.Labels
	return l
}

func located(r *Record, place sink.Place, folder mail.Path) Line {
	l := lineFor(r.Box, string(r.Entry.ID))
	l.Size, l.Global = r.Entry.Size, r.Entry.Global
	if !r.Entry.Date.IsZero() {
		l.Date = r.Entry.Date.UTC().Format(time.RFC3339)
	}
	l.Flags, l.Labels = names(r.Entry.Flags), r.Entry.Labels
	l.Digest, l.Ends, l.Text, l.Lines = r.Want.Digest.String(), r.Ends.String(), r.Want.Text, r.Want.Lines
	l.Folder, l.Place = string(folder), string(place)
	l.Role = r.Box.Role
	if r.Box.Sink != r.Box.Path {
		l.To = string(r.Box.Sink)
	}
	return l
}

func goneLine(b *Box, id source.ID) Line {
	l := lineFor(b, string(id))
	l.Gone = true
	return l
}

// acceptedLine says that a failure is accepted, or not any more.
func acceptedLine(o *Unstored) Line {
	l := lineFor(&o.box, string(o.Entry.ID))
	l.Size = o.Entry.Size
	if !o.Entry.Date.IsZero() {
		l.Date = o.Entry.Date.UTC().Format(time.RFC3339)
	}
	l.Role = o.box.Role
	if o.box.Sink != o.box.Path {
		l.To = string(o.box.Sink)
	}
	l.Accepted, l.Reason = notAccepted, o.Reason
	if !o.Accepted.IsZero() {
		l.Accepted = o.Accepted.UTC().Format(time.RFC3339)
	}
	return l
}

func lineFor(b *Box, id string) Line {
	l := Line{Account: b.Account, Path: string(b.Path), Epoch: b.Epoch, ID: id}
	if b.Raw != string(b.Path) {
		l.Raw = b.Raw
	}
	if !utf8.ValidString(l.Raw) || !utf8.ValidString(l.ID) {
		l.Escaped = true
		l.Raw, l.ID = escape(l.Raw), escape(l.ID)
	}
	return l
}

// escape makes any bytes fit for JSON; mail.Unescape undoes it.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f || s[i] == '%' {
			fmt.Fprintf(&b, "%%%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func names(f mail.Flags) []string {
	all := make([]string, len(f))
	for i := range f {
		all[i] = string(f[i])
	}
	return all
}

// Labels is a list of labels as one string, for storing and comparing.
func Labels(l []string) string {
	if len(l) == 0 {
		return ""
	}
	return string(encode(l))
}

// writeManifest writes the whole manifest from the catalog and notes its
// length.
func (c *Catalog) writeManifest(name string) (int64, error) {
	var n int64
	err := durable.Replace(name, func(w io.Writer) error {
		count := &counter{w: bufio.NewWriterSize(w, 64<<10)}
		if err := c.writeLines(count); err != nil {
			return err
		}
		n = count.n
		return count.w.Flush()
	})
	if err != nil {
		return 0, fmt.Errorf("manifest: %w", noRoom(err, err))
	}
	return n, c.trouble("manifest", c.transact(func() error {
		if err := c.setMeta("manifest", strconv.FormatInt(n, 10)); err != nil {
			return err
		}
		return c.setMeta(manifestSynced, strconv.FormatInt(n, 10))
	}))
}

type counter struct {
	w *bufio.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}

func (c *Catalog) writeLines(w io.Writer) error {
	id, err := c.meta("id")
	if err != nil {
		return err
	}
	head := append(encode(ManifestHead{1, id, c.home.Format, c.home.Layout}), '\n')
	if _, err := w.Write(head); err != nil {
		return err
	}
	var line []byte
	err = c.each(`SELECT a.name, f.path, f.raw, f.role, f.sink, e.name, l.num, l.id, l.size, l.date, l.ends, l.flags, l.labels, l.global,
			m.digest, m.text, m.lines, m.folder, m.place, l.removed, l.gone
		FROM location l JOIN message m ON m.id=l.message JOIN epoch e ON e.id=l.epoch JOIN folder f ON f.id=e.folder
		JOIN account a ON a.id=f.account WHERE m.lost=0 ORDER BY l.epoch, l.num, l.id`, nil, func(rows *sql.Rows) error {
		var b Box
		var r Record
		var num, date, folder, removed int64
		var id, ends, flags, labels, place string
		var digest []byte
		var gone bool
		err := rows.Scan(&b.Account, (*string)(&b.Path), &b.Raw, &b.Role, (*string)(&b.Sink), &b.Epoch, &num, &id, &r.Entry.Size, &date, &ends, &flags, &labels,
			&r.Entry.Global, &digest, &r.Want.Text, &r.Want.Lines, &folder, &place, &removed, &gone)
		if err != nil {
			return err
		}
		r.Box = &b
		r.Entry.ID, r.Entry.Date, r.Entry.Flags = unkey(num, id), fromUnix(date), mail.ParseFlags(flags)
		if labels != "" {
			if err := json.Unmarshal([]byte(labels), &r.Entry.Labels); err != nil {
				return errors.Join(ErrDamaged, err)
			}
		}
		copy(r.Want.Digest[:], digest)
		l := located(&r, sink.Place(place), c.paths[folder])
		l.Ends, l.Gone = ends, gone
		if removed > 0 {
			l.Removed = time.Unix(removed, 0).UTC().Format(time.RFC3339)
		}
		line = appendLine(line[:0], l)
		_, err = w.Write(line)
		return err
	})
	if err != nil {
		return err
	}
	accepted, err := c.unstored("AND x.accepted")
	for i := 0; i < len(accepted) && err == nil; i++ {
		_, err = w.Write(appendLine(line[:0], acceptedLine(&accepted[i])))
	}
	return err
}

// ReadManifest yields the lines of the manifest in dir. A torn last line is
// left out.
func ReadManifest(dir string, yield func(Line) error) error {
	_, bad, err := SalvageManifest(dir, yield)
	if err == nil {
		err = bad
	}
	return err
}

// ReadManifestHead reads the first line of the manifest in dir. One that cannot
// be understood is ErrDamaged.
func ReadManifestHead(dir string) (head ManifestHead, err error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return head, err
	}
	defer f.Close()
	text, err := bufio.NewReader(io.LimitReader(f, 64<<10)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &head)
	}
	if err == nil && head.Format == "" {
		err = errors.New("it names no format")
	}
	if err != nil {
		return ManifestHead{}, fmt.Errorf("%s: its first line: %w: %w", filepath.Join(dir, manifestName), ErrDamaged, err)
	}
	if head.Manifest > 1 {
		return head, fmt.Errorf("%s: it was written by a newer mailhaul (format %d, this one knows 1)", filepath.Join(dir, manifestName), head.Manifest)
	}
	head.Layout = plus(head.Layout)
	return head, nil
}

// SalvageManifest is ReadManifest for one that may be damaged: lines that
// cannot be understood are passed over and counted; bad is why the first of
// them cannot. A torn last line is none of them.
func SalvageManifest(dir string, yield func(Line) error) (passed int, bad, err error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	for first := true; ; first = false {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			return passed, bad, nil
		}
		if err != nil {
			return passed, bad, err
		}
		if first {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			passed++
			if bad == nil {
				bad = errors.Join(ErrDamaged, err)
			}
			continue
		}
		if err := yield(l); err != nil {
			return passed, bad, err
		}
	}
}

func parseLine(text []byte) (l Line, err error) {
	if err := json.Unmarshal(text, &l); err != nil {
		return l, err
	}
	if l.Escaped {
		l.Raw, l.ID = mail.Unescape(l.Raw), mail.Unescape(l.ID)
	}
	if l.Digest != "" {
		_, err = mail.ParseDigest(l.Digest)
	}
	return l, err
}
