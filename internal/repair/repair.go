// Package repair makes the catalog of an archive anew, from the manifest and
// from the mail itself.
//
// What must stay true:
//
//   - Nothing is deleted. A damaged catalog and a damaged manifest get other
//     names; torn bytes at the end of a mailbox file are set aside by its sink.
//   - What the manifest says of a message holds only once the message was found
//     in the mail, by its digest. What was not found is recorded as lost, so that
//     the next backup fetches it.
//   - Mail that the manifest does not know is adopted, so that no backup writes
//     a second copy of it.
//   - Whoever interrupts it finds the archive as it was.
package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Options say what to repair, and with what.
type Options struct {
	Dir    string
	Format string // as the user has said; empty: as the manifest says, or as it looks
	Layout string // likewise; what the manifest says is stronger
	Doing  string // what another run is told that the archive is locked for

	// Open opens the archive's mail in a format and layout.
	Open func(ctx context.Context, format, layout string) (sink.Sink, error)

	// Progress is called with what was read since the last call; it may be nil.
	Progress func(folder mail.Path, messages, bytes int64)
}

// A Result says what was found and done.
type Result struct {
	Messages  int64     `json:"messages"`          // found in the mail
	Bytes     int64     `json:"bytes"`             // of them, in text form
	Locations int64     `json:"locations"`         // rebuilt: places at the server, of messages that were found
	Adopted   int64     `json:"adopted"`           // messages that no manifest knows
	Lost      int64     `json:"lost"`              // messages of the manifest that are not in the mail
	SetAside  int64     `json:"set_aside"`         // torn bytes
	Manifest  bool      `json:"manifest"`          // there was one
	Passed    int64     `json:"passed,omitempty"`  // lines of it that make no sense
	Files     []string  `json:"files,omitempty"`   // damaged ones, under their new names
	Missing   []Missing `json:"missing,omitempty"` // the first of the lost
}

// A Missing message is known to the manifest and not in the mail.
type Missing struct {
	Folder mail.Path  `json:"folder"`
	Place  sink.Place `json:"place"`
	SHA256 string     `json:"sha256"` // of the text form
}

// A job is one repair under way.
type job struct {
	Options
	result Result
	r      *catalog.Rebuild
	sink   sink.Sink
	seen   bool // there is mail
}

// Run repairs an archive. An archive whose catalog is in order is
// catalog.ErrSound, and nothing is done.
func Run(ctx context.Context, o Options) (*Result, error) {
	j := &job{Options: o}
	home, id, err := j.recognise(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { j.sink.Close() }() // everything was synced where it was written
	if j.r, err = catalog.NewRebuild(ctx, home, id, o.Doing); err != nil {
		return nil, err
	}
	err = j.rebuild(ctx)
	if cerr := j.r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	// Opened once, it writes the manifest.
	c, err := catalog.Open(ctx, home, false, o.Doing)
	if err == nil {
		err = c.Close()
	}
	return &j.result, err
}

func (j *job) rebuild(ctx context.Context) error {
	if j.result.Manifest {
		if err := j.read(ctx); err != nil {
			return err
		}
	}
	folders, err := j.folders(ctx)
	if err != nil {
		return err
	}
	for _, p := range folders {
		if err := j.folder(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", mail.Clean(string(p)), err)
		}
	}
	if !j.result.Manifest && !j.seen {
		// Taken for what it is not, it would be an empty archive from now on.
		return fmt.Errorf("%s: %w: as %s there is no mail in it", j.Dir, catalog.ErrNone, strings.TrimSpace(j.Format+" "+j.Layout))
	}
	sums, aside, err := j.r.Finish(ctx)
	if err != nil {
		return err
	}
	if aside != "" {
		j.result.Files = append(j.result.Files, aside)
	}
	if j.result.Passed > 0 { // not before: until now the manifest was all there is
		name, err := j.r.SetAside()
		if err != nil {
			return err
		}
		j.result.Files = append(j.result.Files, name)
	}
	j.result.Messages, j.result.Bytes, j.result.Locations, j.result.Adopted, j.result.Lost = sums.Messages, sums.Bytes, sums.Locations, sums.Adopted, sums.Lost
	for _, s := range sums.Few {
		j.result.Missing = append(j.result.Missing, Missing{s.Folder, s.Place, s.Digest.String()})
	}
	return nil
}

// read takes the manifest in.
func (j *job) read(ctx context.Context) error {
	passed, _, err := catalog.SalvageManifest(j.Dir, func(l catalog.Line) error {
		ok, err := j.r.Add(l)
		if err == nil && !ok {
			j.result.Passed++
		}
		if err == nil {
			err = ctx.Err()
		}
		return err
	})
	j.result.Passed += int64(passed)
	return err
}

// folders are those that the manifest names and those that are there.
func (j *job) folders(ctx context.Context) ([]mail.Path, error) {
	all := j.r.Folders()
	if l, ok := j.sink.(sink.Lister); ok {
		there, err := l.Folders(ctx)
		if err != nil {
			return nil, err
		}
		named := map[mail.Path]bool{}
		for _, p := range all {
			named[p.Plain()] = true
		}
		for _, p := range there {
			if p = p.Plain(); !named[p] {
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// folder searches one folder of the archive.
func (j *job) folder(ctx context.Context, path mail.Path) error {
	f, err := j.sink.Open(ctx, path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // all that the manifest has there is lost
	}
	if err != nil {
		return err
	}
	defer f.Close()
	scan, ok := f.(sink.Scanner)
	if !ok {
		return errors.New("this kind of archive cannot be read back")
	}
	if err := j.search(ctx, path, scan); err != nil {
		return err
	}
	torn, err := j.recover(ctx, path, f)
	if err == nil && torn > 0 {
		// Places behind the torn bytes do not hold any more.
		j.result.SetAside += torn
		err = j.search(ctx, path, scan)
	}
	if err != nil {
		return err
	}
	after, err := f.State(ctx)
	if err != nil {
		return err
	}
	return j.r.SetState(path, after)
}

func (j *job) search(ctx context.Context, path mail.Path, scan sink.Scanner) error {
	if err := j.r.Look(path); err != nil {
		return err
	}
	for found, err := range scan.Scan(ctx, true) {
		if err != nil {
			return err
		}
		j.seen = true
		if err := j.r.Found(path, found); err != nil {
			return err
		}
		if j.Progress != nil {
			j.Progress(path, 1, found.Size)
		}
	}
	return j.r.Match(path)
}

// recover has the sink put right what a run that died has left, and look for
// missing messages once more: one may be whole in front of torn bytes. It tells
// how many bytes were set aside.
func (j *job) recover(ctx context.Context, path mail.Path, f sink.Folder) (torn int64, err error) {
	const most = 10_000
	missing, err := j.r.Missing(path, most)
	if err != nil {
		return 0, err
	}
	var want []sink.Want
	for _, s := range missing {
		// Where names are places, a file of this name that is none of it is in
		// the way of the message when it is fetched again.
		want = append(want, sink.Want{Name: string(s.Place), Digest: s.Digest, Text: s.Text, Lines: s.Lines})
	}
	salvager, ok := f.(sink.Salvager)
	if ok {
		// A run may have died over a message of any size that nobody knows of.
		want = append(want, sink.Want{Name: "unknown", Text: math.MaxInt64})
	}
	places, err := f.Recover(ctx, "", want)
	if err != nil {
		return 0, err
	}
	for i, s := range missing {
		if places[i] != "" {
			if err := j.r.Prove(s.Message, places[i]); err != nil {
				return 0, err
			}
		}
	}
	if ok {
		torn = salvager.SetAside()
	}
	return torn, nil
}
