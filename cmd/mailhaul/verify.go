package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailhaul/internal/compare"
	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/verify"
	"mailhaul/source"
)

const verifyHelp = `
mailhaul verify ARCHIVE

Reads every message of the archive and compares its SHA-256 with the one taken
when it came from the server. ARCHIVE is a directory (mail/ann) or a location
(mbox:mail/ann). No mail is changed.

Messages that are missing or damaged are named on standard error, and noted, so
that the next backup fetches them again if the server still has them. A damaged
file of a Maildir is moved to the directory torn beside the catalog; damaged
bytes in a mailbox file stay where they are. --no-mark only names them. What was
noted and is whole again, as when you have put a copy of yours in place, counts
as that.

--full says the same as no option. --quick reads no mail: it looks only whether
something of the right size lies in the place of every message. --raw also
rebuilds the bytes as they were received, with their line ends, and compares
their number and line ends with what was noted when they came.

--against LOCATION compares with the server as well: 'mailhaul compare' with the
account that the archive was made of, after the look at the archive. What has
come in since the last backup is missing then. With --sample 5% that part of the
server's messages, chosen by chance, is downloaded and compared byte for byte.

Exit code 0: all is as it was stored; 6: messages are missing or damaged; 3: the
archive is in order, but the server has something else.
`

// A verification is what the user wants verified, and how.
type verification struct {
	archive string
	opt     verify.Options
	noMark  bool
	full    bool
	against string
	sample  string
	share   float64
	ignore  []string
}

func (a *app) verify() *cobra.Command {
	var v verification
	c := &cobra.Command{
		Use:   "verify ARCHIVE",
		Short: "Read every stored message and compare digests",
		Long:  verifyHelp,
		Args:  arguments(1, "verify ARCHIVE"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			v.archive = args[0]
			if err := a.withOptions(&v.against); err != nil {
				return err
			}
			if err := v.settle(c.Flags()); err != nil {
				return err
			}
			return a.check(c, &v)
		},
	}
	f := c.Flags()
	f.BoolVar(&v.full, "full", false, "read every message: so it is without this option, too")
	f.BoolVar(&v.opt.Quick, "quick", false, "read no mail: look at places and sizes only")
	f.BoolVar(&v.opt.Raw, "raw", false, "also rebuild the bytes as they were received")
	f.BoolVar(&v.noMark, "no-mark", false, "only name what is missing or damaged: note nothing, move nothing")
	f.StringVar(&v.against, "against", "", "compare with the account at `LOCATION`, too")
	f.StringVar(&v.sample, "sample", "", "with --against: download `PART` of its messages (5%) and compare every byte")
	f.StringSliceVar(&v.ignore, "ignore", nil, "with --against: leave `WHAT` out of it: flags, dates or both (flags,dates)")
	a.accountFlags(f)
	a.outputFlags(f)
	return c
}

// settle refuses options that do not go together.
func (v *verification) settle(f *pflag.FlagSet) (err error) {
	switch {
	case v.opt.Quick && v.full:
		return location.Wrong("give one of them", "--quick and --full")
	case v.opt.Quick && v.opt.Raw:
		return location.Wrong("--raw reads every message: leave --quick out", "--quick and --raw")
	case v.against == "" && (f.Changed("sample") || f.Changed("ignore")):
		return location.Wrong("say which server: --against imaps://USER@HOST", "--sample and --ignore are for a comparison with the server")
	}
	for _, what := range v.ignore {
		if err := leaveOut(&job.Comparison{}, what); err != nil {
			return err
		}
	}
	v.opt.Mark = !v.noMark && !v.opt.Quick
	if f.Changed("sample") {
		v.share, err = job.ParseShare(v.sample)
	}
	return err
}

// A verifiedLine is the last line of "verify --json".
type verifiedLine struct {
	Event string `json:"event"`
	Exit  int    `json:"exit"`
	Error string `json:"error,omitempty"`
	*verify.Result
	Against *compare.Result `json:"against,omitempty"`
	Sample  *job.Sample     `json:"sample,omitempty"`
}

func (a *app) check(c *cobra.Command, v *verification) error {
	ctx := c.Context()
	a.interrupted = "no mail was changed; the look at the archive is not complete"
	r := a.runner("mailhaul verify", nil)
	r.Env.Secret = once(r.Env.Secret)
	line := verifiedLine{Event: "verified"}
	dir, where, result, err := a.checkArchive(ctx, r, v)
	if err != nil {
		return err
	}
	line.Result = result
	if len(result.Problems) > 0 {
		a.code = exitDamaged
	}
	a.showVerified(dir, result)
	if v.against != "" {
		err = a.checkServer(ctx, r, v, where, &line)
	}
	if err != nil {
		line.Error = mail.Clean(err.Error())
		if a.code == exitDone {
			a.code, _ = judge(ctx, err)
		}
	}
	line.Exit = a.code
	if a.json {
		json.NewEncoder(a.out).Encode(line)
	}
	return err
}

// checkArchive is the look at the archive itself. Where tells which of its
// folders is which of the server's.
func (a *app) checkArchive(ctx context.Context, r *job.Runner, v *verification) (dir string, where func(source.Folder) (mail.Path, bool), result *verify.Result, err error) {
	s, cat, err := r.Archive(ctx, v.archive)
	if err != nil {
		return "", nil, nil, err
	}
	defer s.Close()
	defer cat.Close()
	if v.against != "" {
		if where, err = r.Counterpart(ctx, cat, v.against); err != nil {
			return "", nil, nil, err
		}
	}
	messages, bytes, err := verify.Size(ctx, cat)
	if err != nil {
		return "", nil, nil, err
	}
	if v.opt.Raw {
		bytes *= 2
	}
	show := a.showing(v.opt.Quick)
	show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Planned, Count: messages, Bytes: bytes})
	v.opt.Progress = show.read
	result, err = verify.Run(ctx, s, cat, v.opt)
	show.end()
	return cat.Home().Dir, where, result, err
}

// read tells of messages that were read, or looked at.
func (s *show) read(folder mail.Path, messages, bytes int64) {
	if bytes > 0 { // empty messages have been seen
		s.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Read, Folder: folder, Bytes: bytes})
	} else {
		s.looked(folder)
	}
	if messages > 0 {
		s.event(pipeline.Event{Time: time.Now(), Kind: checked, Folder: folder, Count: messages, Bytes: bytes})
	}
}

// checked is the kind of event that counts a message as done.
const checked pipeline.Kind = "checked"

// once asks for the password of a location only once.
func once(ask func(context.Context, location.Location) (string, error)) func(context.Context, location.Location) (string, error) {
	var mu sync.Mutex
	known := map[string]string{}
	return func(ctx context.Context, l location.Location) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if p, ok := known[l.String()]; ok {
			return p, nil
		}
		p, err := ask(ctx, l)
		if err == nil {
			known[l.String()] = p
		}
		return p, err
	}
}

// checkServer compares with the server, and a sample byte for byte.
func (a *app) checkServer(ctx context.Context, r *job.Runner, v *verification, where func(source.Folder) (mail.Path, bool), line *verifiedLine) error {
	show := a.showing(true)
	t := differences{show: show}
	j := job.Comparison{From: v.against, To: v.archive, Where: where, Found: t.found}
	for _, what := range v.ignore {
		_ = leaveOut(&j, what) // settle has seen to it
	}
	j.Planned = func(messages int64) {
		show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Planned, Count: messages})
	}
	j.Progress = show.compared
	result, err := r.Compare(ctx, j)
	show.end()
	line.Against = result
	if result != nil {
		if a.code == exitDone && result.Differ() {
			a.code = exitPartly
		}
		if !a.json {
			t.report(result, a.code, err)
		}
	}
	if err != nil || v.share == 0 {
		return err
	}
	show = a.show()
	line.Sample, err = r.Sample(ctx, job.Sampling{
		Archive: v.archive, Against: v.against, Share: v.share, Pick: rand.Float64, Progress: show.read,
		Planned: func(messages, bytes int64) {
			show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Planned, Count: messages, Bytes: bytes})
		},
	})
	show.end()
	if line.Sample != nil {
		a.showSample(line.Sample)
	}
	return err
}

func (a *app) showSample(s *job.Sample) {
	for i, d := range s.Differ {
		if d.Archive {
			a.code = exitDamaged
		} else if a.code == exitDone {
			a.code = exitPartly
		}
		if i < mostNamed {
			a.warn("%s: message %s: %s", mail.Clean(string(d.Folder)), mail.Clean(string(d.ID)), d.Detail)
		}
	}
	if more := len(s.Differ) - mostNamed; more > 0 {
		a.warn("and %s more", number(int64(more)))
	}
	if a.json || a.quiet {
		return
	}
	fmt.Fprintf(a.out, "sample: %s, %s: the same at the server and in the archive, byte for byte; %s not",
		plural(s.Messages, "message"), bytesOf(s.Bytes), number(int64(len(s.Differ))))
	if s.Unknown > 0 {
		fmt.Fprintf(a.out, "; %s not in the archive", number(s.Unknown))
	}
	fmt.Fprintln(a.out)
}

func (a *app) showVerified(dir string, r *verify.Result) {
	for _, p := range r.Problems {
		detail := ""
		if p.Detail != "" {
			detail = " (" + mail.Clean(p.Detail) + ")"
		}
		a.warn("%s: %s at %s: %s%s", mail.Clean(string(p.Folder)), p.SHA256[:16], mail.Clean(string(p.Place)), p.Kind, detail)
	}
	switch {
	case r.Marked > 0:
		a.hint("run the backup again: it fetches these messages once more if the server still has them")
	case len(r.Problems) > 0:
		a.hint("run the backup again: what is missing is fetched again if the server still has it")
	}
	if a.json || a.quiet {
		return
	}
	if r.Foreign > 0 {
		fmt.Fprintf(a.out, "%s: %s messages that mailhaul did not store were left alone\n", dir, number(r.Foreign))
	}
	if r.Regained > 0 {
		fmt.Fprintf(a.out, "%s: %s back that had been missing or damaged\n", dir, plural(r.Regained, "message"))
	}
	if r.Quick {
		fmt.Fprintf(a.out, "%s: %s messages, %s: something of the right size is in each place (nothing was read); %s missing or damaged\n",
			dir, number(r.Messages), bytesOf(r.Bytes), number(int64(len(r.Problems))))
		return
	}
	fmt.Fprintf(a.out, "%s: %s messages, %s: as they were stored; %s missing or damaged\n",
		dir, number(r.Messages), bytesOf(r.Bytes), number(int64(len(r.Problems))))
	if r.Raw != nil {
		fmt.Fprintf(a.out, "%s: rebuilt as received: %s, %s", dir, plural(r.Raw.Received, "message"), bytesOf(r.Raw.Bytes))
		if r.Raw.Claimed > 0 {
			fmt.Fprintf(a.out, "; of %s the server had told another size than came", number(r.Raw.Claimed))
		}
		fmt.Fprintln(a.out)
	}
}
