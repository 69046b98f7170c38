package mbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/sourcetest"
)

// text is the text form of raw bytes.
func text(raw []byte) []byte {
	var f mail.Folder
	b, took, err := f.Append(nil, raw)
	if err != nil { // too mixed
		ends := f.Ends()
		var back bytes.Buffer
		w := ends.Restore(&back)
		w.Write(b)
		w.Close()
		b = append(back.Bytes(), raw[took:]...)
		if len(b) > 0 && b[len(b)-1] != '\n' {
			b = append(b, '\n')
		}
		return b
	}
	b, _ = f.Close(b)
	return b
}

// stored is a record of our own writer.
func stored(m testmail.Message) []byte {
	var b bytes.Buffer
	w := mboxrd.NewWriter(&b)
	w.Begin("ann@example.org", m.Date)
	w.Write(text(m.Raw()))
	w.End()
	return b.Bytes()
}

func pack(suffix string, b []byte) []byte {
	var out bytes.Buffer
	switch suffix {
	case ".gz":
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
	case ".zst":
		w, _ := zstd.NewWriter(&out)
		w.Write(b)
		w.Close()
	default:
		return b
	}
	return out.Bytes()
}

func sourceOf(t sourcetest.TB, path string, option ...string) source.Source {
	t.Helper()
	l := location.Location{Scheme: "mbox", Path: path, Option: url.Values{}}
	for i := 0; i < len(option); i += 2 {
		l.Option.Set(option[i], option[i+1])
	}
	src, err := Scheme().Open(t.Context(), l, location.Env{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return src
}

var long = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

func write(t sourcetest.TB, name string, b []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	if err == nil {
		err = os.Chtimes(name, long, long)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// TestContract reads what our own sink would have written, without a catalog.
func TestContract(t *testing.T) {
	for _, suffix := range []string{".mbox", ".mbox.gz", ".mbox.zst"} {
		t.Run(suffix, func(t *testing.T) {
			deliveries := 0
			sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
				dir, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					tb.Fatalf("%v", err)
				}
				name := func(p mail.Path) string {
					parts, _ := foldername.Parts(p)
					return filepath.Join(append([]string{dir}, parts...)...) + suffix
				}
				files := map[mail.Path][]byte{}
				for _, f := range folders {
					for _, m := range f.Messages {
						if bytes.HasPrefix(m.Raw(), []byte("Status: RO\r\nX-Status: AFT\r\nX-Keywords: ")) {
							continue
						}
						files[f.Path] = append(files[f.Path], stored(m)...)
					}
					write(tb, name(f.Path), pack(filepath.Ext(suffix), files[f.Path]))
				}
				return sourcetest.Store{
					Source: sourceOf(tb, dir),
					Kept:   text,
					Bare:   true,
					// Our writer puts a status block of its own in front, which stays.
					Loses: func(raw []byte) bool {
						return bytes.HasPrefix(raw, []byte("Status: RO\r\nX-Status: AFT\r\nX-Keywords: "))
					},
					Deliver: func(p mail.Path, messages ...testmail.Message) {
						for _, m := range messages {
							files[p] = append(files[p], stored(m)...)
						}
						write(tb, name(p), pack(filepath.Ext(suffix), files[p]))
						deliveries++
					},
				}
			})
			if deliveries == 0 {
				t.Error("cursors were not tried")
			}
		})
	}
}

// read reads all messages of all folders.
func read(t *testing.T, src source.Source) (all []string, entries []source.Entry) {
	t.Helper()
	folders, err := src.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		box, err := src.Open(t.Context(), f.Path)
		if err != nil {
			t.Fatal(err)
		}
		var es []source.Entry
		for e, err := range box.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			es = append(es, e)
		}
		entries = append(entries, es...)
		next := func(bool) []source.Entry { g := es; es = nil; return g }
		for m, err := range box.Fetch(t.Context(), next) {
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) != m.Size {
				t.Errorf("%s: %d bytes, claimed %d", m.ID, len(b), m.Size)
			}
			all = append(all, fmt.Sprintf("%s: %s", f.Path, b))
		}
		box.Close()
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	return all, entries
}
