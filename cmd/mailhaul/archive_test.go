package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// archiveEquals fails unless every message of the server started last is in
// the archive byte for byte, with its flags and date; with folders, those and
// no others.
func archiveEquals(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: archive-equals DIR [FOLDER...]")
	}
	ts.Check(worldOf(ts).last.equals(ts.MkAbs(args[0]), "127.0.0.1", args[1:]))
}

func stored(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stored DIR N")
	}
	n, err := countStored(ts.MkAbs(args[0]))
	ts.Check(err)
	equal(ts, "messages are stored", n, args[1])
}

// openArchive opens an archive's mail by what its manifest says it is, without
// the catalog: what is compared here is what lies on the disk.
func openArchive(dir string) (sink.Sink, error) {
	f, err := os.Open(filepath.Join(dir, "mailhaul.manifest"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var head struct{ Format, Layout string }
	if err := json.Unmarshal(first, &head); err != nil {
		return nil, err
	}
	raw := head.Format + ":" + dir
	if head.Layout != "" {
		raw += "?" + head.Layout
	}
	_, sinks := plugins()
	return sinks.Open(context.Background(), raw, location.Env{})
}

// equals compares an archive with the book of what the server holds.
func (m *mailbox) equals(dir, host string, folders []string) error {
	s, err := openArchive(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	lines, err := accountLines(dir, m.account(host))
	if err != nil {
		return err
	}
	var errs []error
	for folder, all := range m.book {
		if len(folders) > 0 && !slices.Contains(folders, folder) {
			continue
		}
		epoch := strconv.FormatUint(uint64(m.Validity(folder)), 10)
		for uid, msg := range all {
			l, ok := lines[key{folder, epoch, strconv.FormatUint(uint64(uid), 10)}]
			if !ok {
				errs = append(errs, fmt.Errorf("%q: message %d (%s) is not in the archive", folder, uid, msg.Name))
				continue
			}
			if err := same(s, l, msg.Raw()); err != nil {
				errs = append(errs, fmt.Errorf("%q: message %d (%s): %w", folder, uid, msg.Name, err))
			}
			if got := mail.NewFlags(l.Flags...); got.Key() != msg.Flags.Key() {
				errs = append(errs, fmt.Errorf("%q: message %d (%s): flags are %v, want %v", folder, uid, msg.Name, got, msg.Flags))
			}
			if want := msg.Date.UTC().Format("2006-01-02T15:04:05Z"); l.Date != want {
				errs = append(errs, fmt.Errorf("%q: message %d (%s): date is %s, want %s", folder, uid, msg.Name, l.Date, want))
			}
		}
	}
	for k := range lines {
		if len(folders) > 0 && !slices.Contains(folders, k.folder) {
			errs = append(errs, fmt.Errorf("%q is in the archive too", k.folder))
		}
	}
	return errors.Join(errs...)
}

type key struct{ folder, epoch, id string }

// accountLines are the manifest's last words about each message of an account.
func accountLines(dir, account string) (map[key]catalog.Line, error) {
	lines := map[key]catalog.Line{}
	err := catalog.ReadManifest(dir, func(l catalog.Line) error {
		if l.Account != account {
			return nil
		}
		if l.Raw == "" {
			l.Raw = l.Path
		}
		k := key{l.Raw, strings.SplitN(l.Epoch, "#", 2)[0], l.ID}
		if l.Place == "" {
			old := lines[k]
			old.Flags = l.Flags
			l = old
		}
		lines[k] = l
		return nil
	})
	return lines, err
}

// same compares the bytes that a line leads to.
func same(s sink.Sink, l catalog.Line, want []byte) error {
	got, err := rebuilt(s, l)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%d bytes differ from the %d of the server", len(got), len(want))
	}
	return err
}

// rebuilt is the message that a line leads to, as it came from the server.
func rebuilt(s sink.Sink, l catalog.Line) ([]byte, error) {
	f, err := s.Open(context.Background(), mail.Path(l.Folder), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := f.(sink.Reader).Read(context.Background(), sink.Place(l.Place))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	ends, err := mail.ParseEnds(l.Ends)
	if err != nil {
		return nil, err
	}
	var got bytes.Buffer
	w := ends.Restore(&got)
	if _, err := io.Copy(w, r); err != nil {
		return nil, err
	}
	err = w.Close()
	return got.Bytes(), err
}

// countStored counts the messages that lie in the folders of an archive.
func countStored(dir string) (n int, err error) {
	s, err := openArchive(dir)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(context.Background())
	if err != nil {
		return 0, err
	}
	for _, p := range paths {
		f, err := s.Open(context.Background(), p, false)
		if err != nil {
			return 0, err
		}
		for _, err := range f.(sink.Scanner).Scan(context.Background(), false) {
			if err != nil {
				return 0, err
			}
			n++
		}
		f.Close()
	}
	return n, nil
}
