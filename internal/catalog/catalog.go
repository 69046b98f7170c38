// Package catalog remembers, durably, what has been brought over and where it
// lies. One catalog serves one archive, which may have several accounts.
//
// The archive is the truth and the catalog its index: one SQLite file in the
// archive's state directory. Beside the mail lies the manifest, a text file
// with a line for each location, enough to rebuild the catalog from.
//
// What must stay true: an intention (Begin) is durable before the sink writes
// a byte, and an outcome (Commit) only becomes durable after the sink's Sync.
// A message without a committed location is unknown, whatever the sink holds.
package catalog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
)

// A Catalog is the memory of one archive. Opening it locks the archive. Its
// methods may be called from several goroutines.
type Catalog struct {
	mu       sync.Mutex // one statement at a time: SQLite has one writer
	db       *sql.DB
	conn     *sql.Conn
	stmts    map[string]*sql.Stmt
	lock     *durable.Lock
	manifest *manifest
	folders  map[mail.Path]int64 // sink folders by path
	paths    map[int64]mail.Path // and back
	filed    []mail.Path         // of these, new since the last step began
	filter   *filter             // of the messages; nil: there were some
	home     Home
	run      int64 // the row of this run

	lines []byte // of the manifest, by the step that is under way

	waiting sync.Mutex // for turns
	turns   []*turn
}

// A Home tells where an archive is and what it is made of.
type Home struct {
	Dir    string // the archive
	State  string // name, in Dir, of the catalog's directory
	Format string // the sink's scheme: "mbox", "maildir"
	Layout string // an option that must stay as it was: "maildir++"
}

// StateDir is the directory of the catalog.
func (h Home) StateDir() string { return filepath.Join(h.Dir, h.State) }

func (h Home) file() string { return filepath.Join(h.StateDir(), "catalog.db") }

// ErrNone is returned by Open when there is no catalog and none is to be made.
var ErrNone = errors.New("no archive of mailhaul")

// ErrDamaged marks a catalog that cannot be used as it is.
var ErrDamaged = errors.New("the catalog is damaged")

// ErrForeign marks a directory that holds something else.
var ErrForeign = errors.New("not an archive of mailhaul, and not empty")

// ErrOtherFormat marks an archive of another format or layout.
var ErrOtherFormat = errors.New("the archive has another format")

// migrations make the schema: each leads from the version before it to its own,
// the first one from nothing to version 1. What is released is never changed.
//
// In version 1 a location's num is its ID where that is a number, so
// that rows lie in the order of a listing; id is then empty. A digest is found
// by its first bytes: short keys keep the index small.
var migrations = []string{`
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE account(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE folder(id INTEGER PRIMARY KEY, account INTEGER NOT NULL, path TEXT NOT NULL, raw TEXT NOT NULL,
	sink TEXT NOT NULL, UNIQUE(account, path));
CREATE TABLE epoch(id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, name TEXT NOT NULL, current INTEGER NOT NULL,
	cursor TEXT NOT NULL DEFAULT '', UNIQUE(folder, name));
CREATE TABLE sinkfolder(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT '');
CREATE TABLE message(id INTEGER PRIMARY KEY, prefix INTEGER NOT NULL, digest BLOB NOT NULL, text INTEGER NOT NULL,
	lines INTEGER NOT NULL, folder INTEGER NOT NULL, place TEXT NOT NULL, stored INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0);
CREATE INDEX message_prefix ON message(prefix);
CREATE INDEX message_folder ON message(folder);
CREATE INDEX message_lost ON message(lost) WHERE lost;
CREATE TABLE location(epoch INTEGER NOT NULL, num INTEGER NOT NULL, id TEXT NOT NULL, message INTEGER NOT NULL,
	size INTEGER NOT NULL, date INTEGER NOT NULL, ends TEXT NOT NULL, flags TEXT NOT NULL, labels TEXT NOT NULL,
	global TEXT NOT NULL, run INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0, removed INTEGER NOT NULL DEFAULT 0,
	spared INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY(epoch, num, id)) WITHOUT ROWID;
CREATE INDEX location_message ON location(message);
CREATE INDEX location_global ON location(global) WHERE global <> '';
CREATE TABLE batch(id INTEGER PRIMARY KEY, folder TEXT NOT NULL, mark TEXT NOT NULL, records BLOB NOT NULL);
CREATE TABLE failure(epoch INTEGER NOT NULL, id TEXT NOT NULL, entry BLOB NOT NULL, reason TEXT NOT NULL,
	tries INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY(epoch, id)) WITHOUT ROWID;
CREATE TABLE run(id INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER, report BLOB);
`,
	// What a folder is for at its source, so that it can be brought back there.
	`ALTER TABLE folder ADD COLUMN role TEXT NOT NULL DEFAULT ''`,
	// A message in doubt is no failure: it may have been delivered.
	`ALTER TABLE failure ADD COLUMN doubt INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE failure ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
	ALTER TABLE failure ADD COLUMN note TEXT NOT NULL DEFAULT ''`,
	// When the user has said that a failure is to be left as it is; 0: never.
	`ALTER TABLE failure ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0`,
	// When a folder was last listed in full; 0: not known.
	`ALTER TABLE epoch ADD COLUMN listed INTEGER NOT NULL DEFAULT 0`,
	// What a content is recognised by where it is not at hand.
	`CREATE TABLE hint(digest BLOB PRIMARY KEY, head BLOB NOT NULL, name TEXT NOT NULL) WITHOUT ROWID`,
	// Intentions have another form: see pack. What is there stays as it is.
	``,
}

// Exists reports whether there is a catalog at home. One that may not be looked at
// is there: to take it for lost would send its owner to repair what is whole.
func Exists(h Home) bool {
	_, err := os.Stat(h.file())
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// Find looks for the archive in dir whatever its format is. One whose catalog
// is lost while its manifest is there is ErrDamaged.
func Find(dir string) (Home, error) {
	for _, state := range []string{".mailhaul", "mailhaul.state"} {
		h := Home{Dir: dir, State: state}
		if Exists(h) {
			return h, nil
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return Home{}, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, manifestName)); err == nil {
		return Home{}, fmt.Errorf("%s: the manifest is there but the catalog is not: %w", dir, ErrDamaged)
	}
	return Home{}, fmt.Errorf("%s: %w", dir, ErrNone)
}

// Open opens the catalog of h and locks the archive; doing names what the
// lock is held for. An error of the lock is a *durable.Locked. With create, a
// new archive is made in a directory that is empty or missing; otherwise a
// missing one is ErrNone. Format and Layout, where they are not empty, must be
// those of the archive; Home tells them afterwards.
func Open(ctx context.Context, h Home, create bool, doing string) (*Catalog, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	isNew := !Exists(h)
	if isNew && !create {
		return nil, fmt.Errorf("%s: %w", h.Dir, ErrNone)
	}
	if isNew {
		if err := Vacant(h); err != nil {
			return nil, err
		}
	}
	if err := durable.Mkdir(h.StateDir()); err != nil {
		return nil, noRoom(err, err)
	}
	lock, err := durable.LockFile(filepath.Join(h.StateDir(), "lock"), doing)
	if err != nil {
		return nil, noRoom(err, err)
	}
	c := newCatalog(lock, h)
	if err := c.open(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newCatalog(lock *durable.Lock, h Home) *Catalog {
	return &Catalog{lock: lock, home: h, stmts: map[string]*sql.Stmt{}, folders: map[mail.Path]int64{}, paths: map[int64]mail.Path{}}
}

// Vacant refuses a directory with things of others in it as a place for a new
// archive.
func Vacant(h Home) error {
	list, err := os.ReadDir(h.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	foreign := false
	for _, e := range list {
		switch e.Name() {
		case manifestName:
			return fmt.Errorf("%s: the manifest is there but the catalog (%s) is not: %w", h.Dir, h.State, ErrDamaged)
		case h.State: // a first run that died before it had a catalog
		default:
			foreign = true
		}
	}
	if foreign {
		return fmt.Errorf("%s: %w", h.Dir, ErrForeign)
	}
	return nil
}

func (c *Catalog) open(ctx context.Context) error {
	name := c.home.file()
	_, err := os.Stat(name)
	isNew := errors.Is(err, fs.ErrNotExist)
	if isNew {
		// Made by us, so that nobody else may read it whatever the umask is.
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return noRoom(err, err)
		}
		f.Close()
	}
	// EXCLUSIVE before WAL: no shared memory is needed, so that it works on
	// network shares too.
	if err := c.connect(ctx, name, "locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"); err != nil {
		return err
	}
	version, err := c.version()
	if err != nil {
		return err
	}
	if version == 0 {
		err = c.create()
	} else if version < len(migrations) {
		err = c.trouble("migrate", c.transact(func() error { return c.migrate(version) }))
	}
	if err != nil {
		return err
	}
	if err := c.identify(); err != nil {
		return err
	}
	if err := c.loadFolders(); err != nil {
		return c.trouble("open", err)
	}
	var messages bool
	if err := c.row("SELECT EXISTS(SELECT 1 FROM message)", nil, &messages); err != nil {
		return c.trouble("open", err)
	}
	if !messages {
		c.filter = new(filter)
	}
	c.manifest, err = c.openManifest()
	return err
}

// connect opens a database file.
func (c *Catalog) connect(ctx context.Context, name string, pragmas ...string) error {
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if c.db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.ToSlash(abs)}).EscapedPath()); err != nil {
		return err
	}
	if c.conn, err = c.db.Conn(ctx); err != nil {
		return c.trouble("open", err)
	}
	for _, p := range append(pragmas, "temp_store=MEMORY", "cache_size=-4096") {
		if err := c.exec("PRAGMA " + p); err != nil {
			return c.trouble("open", err)
		}
	}
	return nil
}

// version is that of the schema, 0 for a file without one; one from the future
// is an error.
func (c *Catalog) version() (version int, err error) {
	if err := c.row("PRAGMA user_version", nil, &version); err != nil {
		return 0, c.trouble("open", err)
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("%s: the archive was written by a newer mailhaul (schema %d, this one knows %d)", c.home.Dir, version, len(migrations))
	}
	return version, nil
}

// migrate brings the schema up from a version, as a part of a transaction.
func (c *Catalog) migrate(from int) error {
	for _, m := range migrations[from:] {
		if err := c.exec(m); err != nil {
			return err
		}
	}
	return c.exec("PRAGMA user_version=" + strconv.Itoa(len(migrations)))
}

// create makes a new catalog, in one step: one without tables is new. It is not
// made beside a manifest, which would be written anew from nothing.
func (c *Catalog) create() error {
	if fi, err := os.Lstat(filepath.Join(c.home.Dir, manifestName)); err == nil && fi.Size() > 0 {
		return fmt.Errorf("%s: the catalog is empty but the manifest is not: %w", c.home.Dir, ErrDamaged)
	}
	return c.trouble("create", c.fill(newID()))
}

func newID() string {
	id := make([]byte, 16)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// fill makes the tables of the archive of that id.
func (c *Catalog) fill(id string) error {
	return c.transact(func() error {
		if err := c.migrate(0); err != nil {
			return err
		}
		for k, v := range map[string]string{
			"id": id, "format": c.home.Format, "layout": c.home.Layout,
			"created": strconv.FormatInt(time.Now().Unix(), 10), "manifest": "0",
		} {
			if err := c.do("INSERT INTO meta VALUES(?,?)", k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// identify compares what the archive is with what it is taken for.
func (c *Catalog) identify() error {
	format, err := c.meta("format")
	if err != nil {
		return c.trouble("open", err)
	}
	layout, err := c.meta("layout")
	if err != nil {
		return c.trouble("open", err)
	}
	layout = plus(layout)
	if c.home.Format == "" {
		c.home.Format, c.home.Layout = format, layout
	}
	if c.home.Format != format || c.home.Layout != layout {
		return fmt.Errorf("%s: %w: it is %s, not %s", c.home.Dir, ErrOtherFormat,
			strings.TrimSpace(format+" "+layout), strings.TrimSpace(c.home.Format+" "+c.home.Layout))
	}
	return nil
}

// plus mends a layout as older archives have noted it, "maildir  ".
func plus(layout string) string { return strings.ReplaceAll(layout, " ", "+") }

func (c *Catalog) loadFolders() error {
	return c.each("SELECT id, path FROM sinkfolder", nil, func(r *sql.Rows) error {
		var id int64
		var path string
		if err := r.Scan(&id, &path); err != nil {
			return err
		}
		c.folders[mail.Path(path)], c.paths[id] = id, mail.Path(path)
		return nil
	})
}

// ID names the archive for ever, wherever it is moved to.
func (c *Catalog) ID(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, err := c.meta("id")
	return id, c.trouble("id", err)
}

// Home tells what the archive is.
func (c *Catalog) Home() Home { return c.home }

// Close syncs the manifest and gives the lock back. Its error is a warning:
// everything committed is safe.
func (c *Catalog) Close() error {
	var errs []error
	if m := c.manifest; m != nil {
		err := m.close()
		if err == nil && m.dirt && c.conn != nil {
			err = c.trouble("close", c.setMeta(manifestSynced, strconv.FormatInt(m.len, 10)))
		}
		errs = append(errs, err)
	}
	errs = append(errs, c.closeFile(), c.lock.Release())
	return errors.Join(errs...)
}

// closeFile closes the database. It may be called twice.
func (c *Catalog) closeFile() (err error) {
	for _, s := range c.stmts {
		s.Close()
	}
	clear(c.stmts)
	if c.conn != nil {
		c.conn.Close()
	}
	if c.db != nil {
		err = c.db.Close()
	}
	c.conn, c.db = nil, nil
	return err
}

// trouble names what failed. A full or broken disk ends the run.
func (c *Catalog) trouble(op string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if strings.Contains(text, "malformed") || strings.Contains(text, "not a database") || strings.Contains(text, "CORRUPT") {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var why error
	switch {
	case strings.Contains(text, "disk is full"), strings.Contains(text, "SQLITE_FULL"):
		why = syscall.ENOSPC
	case strings.Contains(text, "disk I/O error"), strings.Contains(text, "unable to open"), strings.Contains(text, "readonly"):
		why = c.reason()
	}
	if why != nil {
		// SQLite names no path to look at for the room that is left.
		err = noRoom(&fs.PathError{Op: op, Path: c.home.file(), Err: why}, fmt.Errorf("%w: %w", why, err))
	}
	return &mail.Error{Op: "catalog " + c.home.file() + ": " + op, Scope: mail.ScopeRun, Err: err}
}

// reason finds out why SQLite could not write. But for a full disk it does not
// tell a quota, a limit to the size of files or a lack of rights from a disk that is
// broken. The same calls, made by ourselves, meet the same end: to open its files,
// and to write one that is as long as they are.
func (c *Catalog) reason() error {
	var at int64
	for _, name := range []string{c.home.file(), c.home.file() + "-wal"} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return plain(err)
		}
		if fi, err := f.Stat(); err == nil {
			at = max(at, fi.Size())
		}
		f.Close() // takes SQLite's own locks away (fcntl): the archive's lock stays, and the run is over
	}
	name := filepath.Join(c.home.StateDir(), "probe")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return plain(err)
	}
	if _, err = f.WriteAt(make([]byte, 64<<10), at); err == nil {
		err = f.Sync()
	}
	f.Close()
	os.Remove(name) // at worst it is there when the next one is made
	if abs, aerr := filepath.Abs(c.home.file()); err == nil && aerr == nil && len(abs) > mostPath {
		return syscall.ENAMETOOLONG
	}
	return plain(err)
}

// mostPath is how long a path SQLite takes at least: MAX_PATHNAME of its os_unix.c,
// without what it adds to the names of its own files.
const mostPath = 512 - len("-journal") - 2

// plain is an error without the path: that of the catalog is told already.
func plain(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// noRoom adds to err how much room is left where the disk is full, as cause, an
// error with a path, tells.
func noRoom(cause, err error) error {
	if why := durable.Trouble(cause); durable.Full(cause) {
		return fmt.Errorf("%s: %w", why, err)
	}
	return err
}

// ---- one statement at a time

// errClosed is what everything gives after Close.
var errClosed = errors.New("the catalog is closed")

// stmt prepares query once. Statements run without a context: a cancelled run
// finishes what it has begun, and watching costs more than the statement.
func (c *Catalog) stmt(query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	if c.conn == nil {
		return nil, errClosed
	}
	s, err := c.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, query)
	}
	c.stmts[query] = s
	return s, nil
}

func (c *Catalog) exec(script string) error {
	if c.conn == nil {
		return errClosed
	}
	_, err := c.conn.ExecContext(context.Background(), script)
	return err
}

func (c *Catalog) do(query string, args ...any) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	_, err = s.Exec(args...)
	return err
}

func (c *Catalog) insert(query string, args ...any) (int64, error) {
	s, err := c.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (c *Catalog) row(query string, args []any, into ...any) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	return s.QueryRow(args...).Scan(into...)
}

func (c *Catalog) each(query string, args []any, f func(*sql.Rows) error) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// transact runs f as one step. The caller holds mu or is alone.
func (c *Catalog) transact(f func() error) error {
	if err := c.do("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	c.filed = c.filed[:0]
	err := f()
	if err == nil {
		err = c.do("COMMIT")
	}
	if err != nil {
		// Best effort: where COMMIT failed for want of space SQLite has
		// rolled back by itself.
		_ = c.do("ROLLBACK")
		for _, path := range c.filed {
			delete(c.paths, c.folders[path])
			delete(c.folders, path)
		}
	}
	return err
}

// A turn is a change that waits for mu.
type turn struct {
	f    func() error
	done bool
	err  error
}

// share is change for one of several writers; the caller does not hold mu. What
// has come to wait while others were at it is one step, which is synced once. f
// may be run again: where the step fails, each gets one of its own.
func (c *Catalog) share(f func() error) error {
	t := &turn{f: f}
	c.waiting.Lock()
	c.turns = append(c.turns, t)
	c.waiting.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.done {
		return t.err
	}
	c.waiting.Lock()
	turns := c.turns
	c.turns = nil
	c.waiting.Unlock()
	all := func() error {
		for _, t := range turns {
			if err := t.f(); err != nil {
				return err
			}
		}
		return nil
	}
	if len(turns) == 1 || c.change(all) != nil {
		for _, t := range turns {
			t.err = c.change(t.f)
		}
	}
	for _, t := range turns {
		t.done = true
	}
	return t.err
}

func (c *Catalog) meta(key string) (string, error) {
	var v string
	err := c.row("SELECT value FROM meta WHERE key=?", []any{key}, &v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return v, err
}

func (c *Catalog) setMeta(key, value string) error {
	return c.do("INSERT INTO meta VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value", key, value)
}

// ---- accounts and runs

// ErrOtherAccount is returned by Admit for a second account.
var ErrOtherAccount = errors.New("the archive belongs to another account")

// Admit lets an account write into the archive: the first one, one that was
// here before, or, with add, any.
func (c *Catalog) Admit(ctx context.Context, account string, add bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	err := c.each("SELECT name FROM account ORDER BY id", nil, func(r *sql.Rows) error {
		var n string
		err := r.Scan(&n)
		names = append(names, n)
		return err
	})
	if err != nil {
		return c.trouble("accounts", err)
	}
	for _, n := range names {
		if n == account {
			return nil
		}
	}
	if len(names) > 0 && !add {
		return fmt.Errorf("%s: %w: it holds %s, not %s", c.home.Dir, ErrOtherAccount, strings.Join(names, " and "), account)
	}
	return c.trouble("accounts", c.do("INSERT INTO account(name) VALUES(?)", account))
}

// Told reports whether a note was made within the last month, and remembers
// that it is made now.
func (c *Catalog) Told(ctx context.Context, note string, at time.Time) (bool, error) {
	const month = 30 * 24 * 3600
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := sha256.Sum256([]byte(note))
	key := "note " + hex.EncodeToString(sum[:8])
	v, err := c.meta(key)
	if err != nil {
		return false, c.trouble("note", err)
	}
	if last, _ := strconv.ParseInt(v, 10, 64); v != "" && at.Unix()-last < month && at.Unix() >= last {
		return true, nil
	}
	return false, c.trouble("note", c.setMeta(key, strconv.FormatInt(at.Unix(), 10)))
}

// StartRun opens the row of a run. Locations committed from now on carry its
// number.
func (c *Catalog) StartRun(ctx context.Context, at time.Time) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run, err = c.insert("INSERT INTO run(started) VALUES(?)", at.Unix())
	return c.trouble("run", err)
}

// EndRun files the report of the run.
func (c *Catalog) EndRun(ctx context.Context, at time.Time, report []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("run", c.do("UPDATE run SET ended=?, report=? WHERE id=?", at.Unix(), report, c.run))
}
