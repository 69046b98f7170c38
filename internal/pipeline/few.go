package pipeline

import (
	"context"
	"fmt"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// ManyAhead is the error of a run that would have brought more messages than it
// may. Nothing was brought.
type ManyAhead struct{ Count, Most int64 }

func (e *ManyAhead) Error() string {
	return fmt.Sprintf("%d messages would be sent, and without --yes no more than %d are: nothing was sent", e.Count, e.Most)
}

// Hint is what to do about it.
func (e *ManyAhead) Hint() string {
	return "if all of them are meant, say --yes; --folder and --exclude choose some"
}

// few makes sure, where that is asked for, that there are not too many messages
// to bring. It lists all folders for that and fetches nothing. What is known by
// its content alone is counted too.
func (r *run) few(ctx context.Context, folders []*folder) error {
	if r.Options.Most == 0 {
		return nil
	}
	var all int64
	for _, f := range folders {
		err := r.retry(ctx, f.Path, func() (bool, error) {
			n, err := f.ahead(ctx)
			if err == nil {
				all += n
			}
			return false, err
		})
		if err != nil {
			// Not even that of one folder: later it might be listed after all.
			return fmt.Errorf("count what would be sent from %s: %w", mail.Clean(string(f.Path)), err)
		}
	}
	if all > r.Options.Most {
		return &ManyAhead{all, r.Options.Most}
	}
	return nil
}

// ahead counts the messages of a folder that are not known.
func (f *folder) ahead(ctx context.Context) (n int64, err error) {
	if f.unchanged(ctx) {
		return 0, nil
	}
	box, err := f.Source.Open(ctx, f.Path)
	if err != nil {
		return 0, err
	}
	defer box.Close()
	var d doubtful
	var a accepted
	fails, err := f.Catalog.Failures(ctx, f.box)
	if err != nil {
		return 0, err
	}
	for _, x := range fails {
		if !x.Accepted.IsZero() {
			a.is(&x)
		} else if x.Doubt && !f.Options.Resend {
			d.is(&x)
		}
	}
	base, _, _ := strings.Cut(f.box.Epoch, "#")
	same := f.box.Epoch != "" && base == box.Epoch()
	piece := make([]source.Entry, 0, chunk)
	count := func() error {
		known := make([]catalog.Known, len(piece))
		if same {
			if known, _, err = f.Catalog.Compare(ctx, f.box, piece, "", true); err != nil {
				return err
			}
		}
		for i, e := range piece {
			if !known[i].Is && !(same && (a.listed(e) || d.listed(e))) && (f.Options.MaxSize == 0 || e.Size <= f.Options.MaxSize) {
				n++
			}
		}
		piece = piece[:0]
		return nil
	}
	for e, err := range box.List(ctx, "") {
		if err != nil {
			return 0, err
		}
		if piece = append(piece, e); len(piece) == chunk {
			if err := count(); err != nil {
				return 0, err
			}
		}
	}
	err = count()
	return n, err
}
