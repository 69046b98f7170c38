package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// mostLost is how many lost messages Finish names.
const mostLost = 1000

// A Rebuild is a catalog in the making, in place of one that is lost or
// damaged. It lies beside it under a name of its own, and takes its place in
// one step at the end: until then nothing has changed, and whoever dies leaves
// nothing but a file that the next Rebuild removes.
//
// Every message that the manifest knows is missing until it was found in the
// mail. Methods are called from one goroutine.
type Rebuild struct {
	c        *Catalog
	file     string
	epochs   map[string]int64 // by folder and name
	boxes    map[string]int64 // source folders, by account and path
	accounts map[string]int64
	last     map[int64]int64 // the epoch of a source folder's last line
	roles    map[int64]string
	todo     int // statements in the transaction that is open
}

// ErrSound is returned for an archive whose catalog is in order.
var ErrSound = errors.New("the catalog is in order")

const rebuilding = "catalog.db.new"

// NewRebuild locks the archive of h and begins a catalog for it, empty. An empty
// id makes it another archive than it was. ErrSound says that there is nothing
// to do.
func NewRebuild(ctx context.Context, h Home, id, doing string) (*Rebuild, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(h.StateDir()); err != nil {
		return nil, err
	}
	lock, err := durable.LockFile(filepath.Join(h.StateDir(), "lock"), doing)
	if err != nil {
		return nil, err
	}
	r := &Rebuild{c: newCatalog(lock, h), file: filepath.Join(h.StateDir(), rebuilding), epochs: map[string]int64{}, boxes: map[string]int64{},
		accounts: map[string]int64{}, last: map[int64]int64{}, roles: map[int64]string{}}
	if id == "" {
		id = newID()
	}
	if err := r.begin(ctx, id); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Rebuild) begin(ctx context.Context, id string) error {
	if Exists(r.c.home) {
		if err := inspect(ctx, r.c.home); err == nil {
			return fmt.Errorf("%s: %w", r.c.home.Dir, ErrSound)
		} else if !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	if err := r.discard(); err != nil {
		return err
	}
	f, err := os.OpenFile(r.file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	// Nobody relies on this file before Finish has synced it.
	if err := r.c.connect(ctx, r.file, "locking_mode=EXCLUSIVE", "journal_mode=MEMORY", "synchronous=OFF"); err != nil {
		return err
	}
	if err := r.c.fill(id); err != nil {
		return r.c.trouble("create", err)
	}
	err = r.c.exec(`CREATE INDEX rebuild_place ON message(folder, place);
		CREATE TABLE rebuild_found(id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, digest BLOB NOT NULL, text INTEGER NOT NULL, lines INTEGER NOT NULL, place TEXT NOT NULL)`)
	if err == nil {
		err = r.c.do("INSERT INTO meta VALUES('manifest', '-1') ON CONFLICT(key) DO UPDATE SET value=excluded.value")
	}
	if err == nil {
		now := time.Now().Unix()
		r.c.run, err = r.c.insert("INSERT INTO run(started, ended) VALUES(?,?)", now, now)
	}
	return r.c.trouble("create", err)
}

// inspect looks for damage in a catalog, and changes nothing.
func inspect(ctx context.Context, h Home) error {
	c := newCatalog(nil, h)
	defer c.closeFile()
	if err := c.connect(ctx, h.file(), "locking_mode=EXCLUSIVE"); err != nil {
		return err
	}
	version, err := c.version()
	if err != nil {
		return err
	}
	if version == 0 {
		return fmt.Errorf("%s: %w: it is empty", h.Dir, ErrDamaged)
	}
	var says string
	if err := c.row("PRAGMA integrity_check(1)", nil, &says); err != nil {
		return c.trouble("check", err)
	}
	if says != "ok" {
		return fmt.Errorf("%s: %w: %s", h.Dir, ErrDamaged, mail.Clean(says))
	}
	id, err := c.meta("id")
	if err == nil && id == "" {
		return fmt.Errorf("%s: %w: it has no id", h.Dir, ErrDamaged)
	}
	return c.trouble("check", err)
}

// discard removes what an earlier Rebuild has left.
func (r *Rebuild) discard() error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(r.file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// step keeps a transaction open around statements, some thousands each.
func (r *Rebuild) step(op string, f func() error) error {
	const most = 10_000
	if r.todo == 0 {
		if err := r.c.do("BEGIN"); err != nil {
			return r.c.trouble(op, err)
		}
	}
	r.todo++
	err := f()
	if err == nil && r.todo >= most {
		err = r.settle()
	}
	return r.c.trouble(op, err)
}

func (r *Rebuild) settle() error {
	if r.todo == 0 {
		return nil
	}
	r.todo = 0
	return r.c.do("COMMIT")
}

// Add takes in a line of the manifest. One about a location of which no line
// with a place has come is passed over, and so is one without sense: it reports
// false.
func (r *Rebuild) Add(l Line) (ok bool, err error) {
	if l.Account == "" || l.Path == "" || l.Epoch == "" || l.ID == "" {
		return false, nil
	}
	err = r.step("manifest", func() error {
		folder, epoch, err := r.place(l)
		if err != nil {
			return err
		}
		num, id := key(source.ID(l.ID))
		switch {
		case l.Place != "":
			if ok, err = r.locate(l, epoch, num, id); err == nil && ok {
				err = r.c.do("DELETE FROM failure WHERE epoch=? AND id=?", epoch, l.ID)
			}
		case l.Accepted == notAccepted:
			ok = true
			err = r.c.do("DELETE FROM failure WHERE epoch=? AND id=?", epoch, l.ID)
		case l.Accepted != "":
			ok, err = r.accept(l, epoch)
		case l.Removed != "":
			ok = true
			err = r.c.do("UPDATE location SET gone=1, removed=? WHERE epoch=? AND num=? AND id=?", instant(l.Removed), epoch, num, id)
		case l.Gone:
			ok = true
			err = r.c.do("UPDATE location SET gone=1 WHERE epoch=? AND num=? AND id=?", epoch, num, id)
		default:
			ok = true
			err = r.c.do("UPDATE location SET flags=?, labels=?, gone=0 WHERE epoch=? AND num=? AND id=?",
				mail.NewFlags(l.Flags...).Key(), Labels(l.Labels), epoch, num, id)
		}
		r.last[folder] = epoch
		return err
	})
	return ok, err
}

// place files the account, folder and epoch of a line.
func (r *Rebuild) place(l Line) (folder, epoch int64, err error) {
	account, ok := r.accounts[l.Account]
	if !ok {
		if account, err = r.c.insert("INSERT INTO account(name) VALUES(?)", l.Account); err != nil {
			return 0, 0, err
		}
		r.accounts[l.Account] = account
	}
	name := l.Account + "\x00" + l.Path
	if folder, ok = r.boxes[name]; !ok {
		raw := l.Raw
		if raw == "" {
			raw = l.Path
		}
		if folder, err = r.c.insert("INSERT INTO folder(account, path, raw, sink, role) VALUES(?,?,?,?,?)", account, l.Path, raw, target(l), l.Role); err != nil {
			return 0, 0, err
		}
		r.boxes[name], r.roles[folder] = folder, l.Role
	}
	if l.Place != "" && r.roles[folder] != l.Role {
		r.roles[folder] = l.Role
		if err := r.c.do("UPDATE folder SET role=? WHERE id=?", l.Role, folder); err != nil {
			return 0, 0, err
		}
	}
	name = fmt.Sprintf("%d\x00%s", folder, l.Epoch)
	if epoch, ok = r.epochs[name]; !ok {
		if epoch, err = r.c.insert("INSERT INTO epoch(folder, name, current) VALUES(?,?,0)", folder, l.Epoch); err != nil {
			return 0, 0, err
		}
		r.epochs[name] = epoch
	}
	return folder, epoch, nil
}

// target is where new mail of the folder goes. Older manifests do not say it:
// then it is the path, or that with the mark which tells folders apart that a
// file system takes for one.
func target(l Line) string {
	if l.To != "" {
		return l.To
	}
	if rest, ok := strings.CutPrefix(l.Folder, l.Path+"~"); ok && len(rest) == 8 && strings.Trim(rest, "0123456789abcdef") == "" {
		return l.Folder
	}
	return l.Path
}

func (r *Rebuild) locate(l Line, epoch, num int64, id string) (ok bool, err error) {
	digest, derr := mail.ParseDigest(l.Digest)
	ends, eerr := mail.ParseEnds(l.Ends)
	if derr != nil || eerr != nil || l.Folder == "" || l.Text < 0 || l.Lines < 0 {
		return false, nil
	}
	folder, err := r.c.sinkFolder(mail.Path(l.Folder))
	if err != nil {
		return false, err
	}
	var message int64
	err = r.c.row("SELECT id FROM message WHERE folder=? AND place=? AND digest=?", []any{folder, l.Place, digest[:]}, &message)
	if errors.Is(err, sql.ErrNoRows) {
		message, err = r.c.insert("INSERT INTO message(prefix, digest, text, lines, folder, place, stored, lost) VALUES(?,?,?,?,?,?,?,1)",
			prefix(digest), digest[:], l.Text, l.Lines, folder, l.Place, time.Now().Unix())
	}
	if err != nil {
		return false, err
	}
	date := time.Time{}
	if l.Date != "" {
		if date, err = time.Parse(time.RFC3339, l.Date); err != nil {
			return false, nil
		}
	}
	removed := instant(l.Removed)
	return true, r.c.do(`INSERT INTO location(epoch, num, id, message, size, date, ends, flags, labels, global, run, gone, removed) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT(epoch, num, id) DO UPDATE SET message=excluded.message, size=excluded.size, date=excluded.date, ends=excluded.ends,
		flags=excluded.flags, labels=excluded.labels, global=excluded.global, gone=excluded.gone, removed=excluded.removed`,
		epoch, num, id, message, l.Size, unix(date), ends.String(), mail.NewFlags(l.Flags...).Key(), Labels(l.Labels), l.Global, r.c.run,
		l.Gone || removed > 0, removed)
}

// accept takes in that a message which was not stored is to be left as it is.
func (r *Rebuild) accept(l Line, epoch int64) (ok bool, err error) {
	at := instant(l.Accepted)
	if at == 0 {
		return false, nil
	}
	e := source.Entry{ID: source.ID(l.ID), Size: l.Size}
	if l.Date != "" {
		if e.Date, err = time.Parse(time.RFC3339, l.Date); err != nil {
			return false, nil
		}
	}
	return true, r.c.do(`INSERT INTO failure(epoch, id, entry, reason, tries, first, last, accepted) VALUES(?,?,?,?,1,?,?,?)
		ON CONFLICT(epoch, id) DO UPDATE SET entry=excluded.entry, reason=excluded.reason, accepted=excluded.accepted`,
		epoch, l.ID, encode(e), l.Reason, at, at, at)
}

// instant is a time of the manifest in seconds; 0 where there is none.
func instant(s string) int64 {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0
	}
	return t.Unix()
}

// Folders are those of the archive that are known so far.
func (r *Rebuild) Folders() []mail.Path {
	var all []mail.Path
	for p := range r.c.folders {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Look begins the search of a folder, anew where it was searched before.
func (r *Rebuild) Look(path mail.Path) error {
	return r.step("look", func() error {
		at, err := r.c.sinkFolder(path)
		if err == nil {
			err = r.c.do("DELETE FROM message WHERE folder=? AND NOT EXISTS (SELECT 1 FROM location l WHERE l.message=message.id)", at)
		}
		if err == nil {
			err = r.c.do("UPDATE message SET lost=1 WHERE folder=?", at)
		}
		if err == nil {
			err = r.c.do("DELETE FROM rebuild_found WHERE folder=?", at)
		}
		return err
	})
}

// Found takes in a message of the folder that is searched, with its digest.
func (r *Rebuild) Found(path mail.Path, f sink.Found) error {
	return r.step("found", func() error {
		at, err := r.c.sinkFolder(path)
		if err != nil {
			return err
		}
		here, known, err := r.known(at, f)
		switch {
		case err != nil:
			return err
		case here != 0:
			return r.c.do("UPDATE message SET lost=0 WHERE id=?", here)
		case known:
			// It is one of several places for this content, or it has moved:
			// that is decided when all places are known.
			_, err = r.c.insert("INSERT INTO rebuild_found(folder, digest, text, lines, place) VALUES(?,?,?,?,?)", at, f.Digest[:], f.Size, f.Lines, string(f.Place))
			return err
		}
		if changed, err := r.changed(at, f); err != nil || changed {
			return err
		}
		return r.adopt(at, f.Digest, f.Size, f.Lines, f.Place)
	})
}

// known looks for what the manifest says of a found message: the row of its
// very place, and whether its content is known in the folder at all.
func (r *Rebuild) known(folder int64, f sink.Found) (here int64, known bool, err error) {
	err = r.c.each("SELECT id, place FROM message WHERE prefix=? AND digest=? AND folder=?", []any{prefix(f.Digest), f.Digest[:], folder}, func(rows *sql.Rows) error {
		var id int64
		var place string
		err := rows.Scan(&id, &place)
		if known = true; place == string(f.Place) {
			here = id
		}
		return err
	})
	return here, known, err
}

// changed reports whether something found is a message of the manifest that is
// not as it was stored: it lies in the place of one, or is one but for what
// other programs add. It is left alone, and not taken for mail of its own.
func (r *Rebuild) changed(folder int64, f sink.Found) (is bool, err error) {
	err = r.c.row(`SELECT EXISTS(SELECT 1 FROM message m JOIN location l ON l.message=m.id WHERE m.folder=? AND m.place=?)`, []any{folder, string(f.Place)}, &is)
	if err == nil && !is && f.Other != (mail.Digest{}) {
		err = r.c.row("SELECT EXISTS(SELECT 1 FROM message m JOIN location l ON l.message=m.id WHERE m.prefix=? AND m.digest=?)", []any{prefix(f.Other), f.Other[:]}, &is)
	}
	return is, err
}

func (r *Rebuild) adopt(folder int64, d mail.Digest, text, lines int64, place sink.Place) error {
	_, err := r.c.insert("INSERT INTO message(prefix, digest, text, lines, folder, place, stored) VALUES(?,?,?,?,?,?,?)",
		prefix(d), d[:], text, lines, folder, string(place), time.Now().Unix())
	return err
}

// Match gives messages that are not in their place another one with the same
// content, once all of the folder was found. What is left of such places are
// further copies: they are adopted.
func (r *Rebuild) Match(path mail.Path) error {
	return r.step("match", func() error {
		at, err := r.c.sinkFolder(path)
		if err != nil {
			return err
		}
		for {
			var id, text, lines, message int64
			var digest []byte
			var place string
			err := r.c.row("SELECT id, digest, text, lines, place FROM rebuild_found WHERE folder=? ORDER BY id LIMIT 1", []any{at}, &id, &digest, &text, &lines, &place)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			d := mail.Digest(digest)
			err = r.c.row("SELECT id FROM message WHERE prefix=? AND digest=? AND folder=? AND lost=1 ORDER BY id LIMIT 1", []any{prefix(d), digest, at}, &message)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				err = r.adopt(at, d, text, lines, sink.Place(place))
			case err == nil:
				err = r.c.do("UPDATE message SET lost=0, place=? WHERE id=?", place, message)
			}
			if err == nil {
				err = r.c.do("DELETE FROM rebuild_found WHERE id=?", id)
			}
			if err != nil {
				return err
			}
		}
	})
}

// Missing lists the last n messages of a folder that were not found.
func (r *Rebuild) Missing(path mail.Path, n int) (all []Stored, err error) {
	err = r.c.each("SELECT id, digest, text, lines, place FROM message WHERE folder=? AND lost=1 ORDER BY id DESC LIMIT ?", []any{r.c.folders[path], n}, func(rows *sql.Rows) error {
		s := Stored{Folder: path}
		var digest []byte
		err := rows.Scan(&s.Message, &digest, &s.Text, &s.Lines, (*string)(&s.Place))
		copy(s.Digest[:], digest)
		all = append(all, s)
		return err
	})
	return all, r.c.trouble("missing", err)
}

// Prove notes that a message was found after all.
func (r *Rebuild) Prove(message int64, at sink.Place) error {
	return r.step("prove", func() error {
		return r.c.do("UPDATE message SET lost=0, place=? WHERE id=?", string(at), message)
	})
}

// SetState notes what a folder was like when it was searched.
func (r *Rebuild) SetState(path mail.Path, s sink.State) error {
	return r.step("state", func() error {
		at, err := r.c.sinkFolder(path)
		if err == nil {
			err = r.c.do("UPDATE sinkfolder SET state=? WHERE id=?", string(s), at)
		}
		return err
	})
}

// Sums are what a catalog holds.
type Sums struct {
	Messages  int64    // found in the mail
	Bytes     int64    // of them, in text form
	Locations int64    // of them, as the manifest has it
	Adopted   int64    // of Messages: the manifest does not know them
	Lost      int64    // known to the manifest and not found
	Few       []Stored // the first of the lost
}

// Finish puts the new catalog in place. The damaged one is moved aside, under a
// name that is returned; it is empty where there was none. The archive stays
// locked until Close.
func (r *Rebuild) Finish(ctx context.Context) (sums Sums, aside string, err error) {
	for folder, epoch := range r.last {
		if err := r.step("finish", func() error {
			return r.c.do("UPDATE epoch SET current=(id=?) WHERE folder=?", epoch, folder)
		}); err != nil {
			return sums, "", err
		}
	}
	if err := r.settle(); err != nil {
		return sums, "", r.c.trouble("finish", err)
	}
	if sums, err = r.sum(); err != nil {
		return sums, "", r.c.trouble("finish", err)
	}
	if err := r.c.exec("DROP INDEX rebuild_place; DROP TABLE rebuild_found"); err != nil {
		return sums, "", r.c.trouble("finish", err)
	}
	if err := ctx.Err(); err != nil {
		return sums, "", err
	}
	if err := r.c.closeFile(); err != nil {
		return sums, "", err
	}
	aside, err = r.publish()
	return sums, aside, err
}

func (r *Rebuild) sum() (s Sums, err error) {
	for query, into := range map[string][]any{
		"SELECT count(*), ifnull(sum(text), 0) FROM message WHERE lost=0":                                              {&s.Messages, &s.Bytes},
		"SELECT count(*) FROM location l JOIN message m ON m.id=l.message WHERE m.lost=0":                              {&s.Locations},
		"SELECT count(*) FROM message m WHERE m.lost=0 AND NOT EXISTS (SELECT 1 FROM location l WHERE l.message=m.id)": {&s.Adopted},
	} {
		if err := r.c.row(query, nil, into...); err != nil {
			return s, err
		}
	}
	// What no line leads to any more was replaced at its source.
	if err := r.c.do("DELETE FROM message WHERE lost AND NOT EXISTS (SELECT 1 FROM location l WHERE l.message=message.id)"); err != nil {
		return s, err
	}
	if err := r.c.row("SELECT count(*) FROM message WHERE lost", nil, &s.Lost); err != nil {
		return s, err
	}
	s.Few, err = r.c.lost(mostLost)
	return s, err
}

// publish gives the new file its name. What belonged to the old one goes aside
// first: its journal would be taken for that of the new one.
func (r *Rebuild) publish() (aside string, err error) {
	dir, err := durable.OpenDir(r.c.home.StateDir())
	if err != nil {
		return "", err
	}
	defer dir.Close()
	f, err := dir.Append(rebuilding)
	if err != nil {
		return "", err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	name := filepath.Base(r.c.home.file())
	mark, err := spare(dir, name)
	if err != nil {
		return "", err
	}
	for _, suffix := range []string{"-shm", "-journal", "-wal", ""} {
		err := dir.Rename(name+suffix, mark+suffix)
		if err == nil && suffix == "" {
			aside = dir.Path(mark)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := dir.Rename(rebuilding, name); err != nil {
		return aside, err
	}
	return aside, dir.Sync(".")
}

// spare is a name for something damaged that no other file has.
func spare(dir *durable.Dir, name string) (string, error) {
	base := name + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	for n, free := 2, base; ; n++ {
		if _, err := dir.Stat(free); errors.Is(err, fs.ErrNotExist) {
			return free, nil
		} else if err != nil {
			return "", err
		}
		free = fmt.Sprintf("%s-%d", base, n)
	}
}

// SetAside gives the manifest another name, so that none of it is lost when it
// is written anew. It comes after Finish.
func (r *Rebuild) SetAside() (string, error) {
	dir, err := durable.OpenDir(r.c.home.Dir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	name, err := spare(dir, manifestName)
	if err != nil {
		return "", err
	}
	if err := dir.Rename(manifestName, name); err != nil {
		return "", err
	}
	return dir.Path(name), dir.Sync(".")
}

// Close gives the lock back. What was not finished is removed.
func (r *Rebuild) Close() error {
	err := r.c.closeFile()
	if derr := r.discard(); err == nil {
		err = derr
	}
	return errors.Join(err, r.c.lock.Release())
}
