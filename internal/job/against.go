package job

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// Counterpart tells how the folders of an account and those of the archive that
// it was brought into belong together, for a Comparison of the two. An account
// that the archive does not know is catalog.ErrOtherAccount.
func (r *Runner) Counterpart(ctx context.Context, cat *catalog.Catalog, raw string) (where func(source.Folder) (mail.Path, bool), err error) {
	l, _, err := r.Sources.Check(raw, r.Env.Home)
	if err != nil {
		return nil, err
	}
	account := Account(l)
	accounts, err := cat.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	known := false
	for _, a := range accounts {
		names = append(names, a.Name)
		known = known || a.Name == account
	}
	if !known {
		return nil, fmt.Errorf("%s: %w: it holds %s, not %s", cat.Home().Dir, catalog.ErrOtherAccount, strings.Join(names, " and "), account)
	}
	origins, err := cat.Origins(ctx, false)
	if err != nil {
		return nil, err
	}
	// As package archive names them: a later account's folder lies below its
	// name where an earlier one has a folder of that path.
	taken, at := map[mail.Path]bool{}, map[mail.Path]mail.Path{}
	for _, o := range origins {
		path := o.Path
		if taken[path] {
			path = mail.Join(o.Account) + "/" + path
		}
		taken[path] = true
		if o.Account == account {
			at[o.Path] = path
		}
	}
	return func(f source.Folder) (mail.Path, bool) {
		path, ok := at[f.Path]
		if !ok {
			path = f.Path
		}
		return path, ok
	}, nil
}

// A Sampling says of which messages to compare the bytes.
type Sampling struct {
	Archive string
	Against string  // a location of a source that the archive was made of
	Share   float64 // of its messages; one at least
	Pick    func() float64

	Planned  func(messages, bytes int64) // told once a folder, before it is read
	Progress func(folder mail.Path, messages, bytes int64)
}

// A Sample says how messages that a server gave compare with the archive's.
type Sample struct {
	Messages int64       `json:"messages"` // compared, byte for byte
	Bytes    int64       `json:"bytes"`    // of them, as they came
	Unknown  int64       `json:"unknown"`  // chosen, and not in the archive (yet)
	Vanished int64       `json:"vanished"` // chosen, and gone when they were asked for
	Differ   []Different `json:"differ,omitempty"`
}

// A Different message is not the same at the server and in the archive, or
// cannot be read at one of them.
type Different struct {
	Folder  mail.Path `json:"folder"`
	ID      source.ID `json:"id"`
	Detail  string    `json:"detail"`
	Archive bool      `json:"archive"` // it is the archive's copy that cannot be read or is not what was stored
}

// Sample downloads a part of the mail once more and compares digest, size and
// line ends with the archive. The result is valid when it is not nil, also with
// an error.
func (r *Runner) Sample(ctx context.Context, s Sampling) (out *Sample, err error) {
	sk, cat, err := r.Archive(ctx, s.Archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sk.Close(), cat.Close()) }()
	src, at, account, err := r.Source(ctx, s.Against)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	out = &Sample{}
	k := &sampler{Sampling: s, Sample: out, sink: sk, cat: cat, src: src, account: account}
	if err := k.run(ctx); err != nil {
		return out, Blame(at, err)
	}
	return out, nil
}

// ParseShare reads a part of a whole: 5%, 0.5%.
func ParseShare(s string) (float64, error) {
	var n float64
	var rest string
	if _, err := fmt.Sscanf(s, "%g%s", &n, &rest); err != nil || rest != "%" || !(n > 0 && n <= 100) {
		return 0, location.Wrong("write a part of the messages: 5%, 0.5%, 100%", "--sample %s", mail.Clean(s))
	}
	return n / 100, nil
}
