package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/sink"
)

// Exit codes are promises: scripts tell causes apart by them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartly      = 3
	exitLogin       = 4
	exitLocked      = 5
	exitDamaged     = 6
	exitLater       = 75
	exitInterrupted = 130
)

const usage = `Mailhaul brings mailboxes home: every message, byte for byte.

  mailhaul backup FROM TO       bring what is new from FROM into the archive TO
  mailhaul migrate FROM TO      bring an account to another provider
  mailhaul restore ARCHIVE TO   bring an archive back into an account
  mailhaul folders FROM         list folders with roles, messages and sizes
  mailhaul deliver FROM TO      send what is new from FROM by SMTP or LMTP, --to ADDRESS
  mailhaul compare FROM TO      look whether all mail of FROM is at TO, unchanged
  mailhaul verify ARCHIVE       read every stored message and compare digests
  mailhaul status ARCHIVE       what an archive is, its last runs, and what is open
  mailhaul accept ARCHIVE ID    leave a message that cannot be had as it is
  mailhaul repair ARCHIVE       make a lost or damaged catalog anew from the mail
  mailhaul demo                 watch all of it on this machine, no account needed
  mailhaul help TOPIC           a command, or a kind of location:
                                %s

Examples:
  mailhaul backup imaps://ann@example.org@imap.example.org mbox:mail/ann
  mailhaul backup pop3s://bob@pop.example.com maildir:mail/bob
  mailhaul migrate imaps://ann@old.example imaps://ann@new.example --dry-run
  mailhaul backup --exclude Trash --exclude 'Lists/*' imaps://ann@mail.example.org mbox:mail/ann

Passwords are asked for on a terminal, or come from MAILHAUL_PASSWORD,
--password-file FILE or --password-command COMMAND; never from a location.
A backup changes nothing on the server, unless --delete-after is given (POP3).
Run the same command again and it brings only what is new; interrupt it and run
it again, and it goes on.

Exit codes: 0 all done, 1 failed, 2 wrong usage, 3 done except for what is
named in the report, 4 login refused, 5 archive locked by another run,
6 archive damaged, 75 try again later, 130 interrupted (143 by SIGTERM).
`

// An app is one call of the program.
type app struct {
	stdio
	getenv func(string) string
	args   []string

	keys, fromKeys, toKeys keyring
	twoServers             bool // a password without a side is for neither
	cleartext              bool
	quiet, json            bool
	sends                  bool // it does not bring mail home, but hands it on
	options                []string
	planned                func(*job.Plan) error // told before anything is written; may be nil

	code        int    // of a run that ended without an error
	interrupted string // what it means that a run was; empty: what it means for a backup
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, io stdio, getenv func(string) string) int {
	a := &app{stdio: io, getenv: getenv, args: args, fromKeys: keyring{side: "from"}, toKeys: keyring{side: "to"}}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return a.code
	}
	return a.fail(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "mailhaul",
		Short:         "Back up and migrate mailboxes",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.unknownCommand(c, args[0])
			}
			fmt.Fprint(a.err, a.usage())
			return errUsageShown
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		if c == root {
			fmt.Fprint(a.out, a.usage())
			return
		}
		c.InitDefaultHelpFlag() // or "help backup" would differ from "backup --help"
		fmt.Fprint(a.out, strings.TrimLeft(c.Long, "\n"))
		if f := c.LocalFlags().FlagUsages(); f != "" {
			fmt.Fprintf(a.out, "\nFlags:\n%s", f)
		}
	})
	root.SetHelpCommand(a.help(root))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return unknownFlag(c, err) })
	root.SetVersionTemplate("mailhaul {{.Version}}\n")
	root.AddCommand(a.backup(), a.migrate(), a.restore(), a.compare(), a.folders(), a.deliver(), a.verify(), a.status(), a.accept(), a.repair(), a.demo())
	for _, c := range root.Commands() {
		c.DisableFlagsInUseLine = true
	}
	return root
}

func (a *app) usage() string {
	var names []string
	sources, sinks := plugins()
	for _, s := range sources.Schemes() {
		names = append(names, s.Names...)
	}
	for _, s := range sinks.Schemes() {
		for _, n := range s.Names {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return fmt.Sprintf(usage, strings.Join(names, ", "))
}

// help prints the help of a command, or of a kind of location from the same
// table that parsing uses.
func (a *app) help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [TOPIC]",
		Short: "Explain a command or a kind of location",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return root.Help()
			}
			sources, sinks := plugins()
			topic := strings.TrimSuffix(args[0], ":")
			from, isSource := sources.Lookup(topic)
			if isSource {
				printScheme(a.out, "From "+from.Form, from.Help, from.Options)
			}
			to, isSink := sinks.Lookup(topic)
			if isSource && isSink {
				fmt.Fprintln(a.out)
			}
			if isSink {
				printScheme(a.out, "To "+to.Form, to.Help, to.Options)
			}
			if isSource || isSink {
				return nil
			}
			if c, rest, err := root.Find(args); err == nil && c != root && len(rest) == 0 {
				return c.Help()
			}
			return a.unknownCommand(root, args[0])
		},
	}
}

func printScheme(w io.Writer, form, help string, options []location.Option) {
	fmt.Fprintf(w, "%s\n  %s\n", form, strings.ReplaceAll(strings.TrimSpace(help), "\n", "\n  "))
	if len(options) > 0 {
		fmt.Fprint(w, "\nOptions, given as ?name=value&name=value or with -o name=value:\n")
	}
	for _, o := range options {
		fmt.Fprintf(w, "  %-12s %s", o.Name, o.Help)
		if o.Default != "" {
			fmt.Fprintf(w, " (default %s)", o.Default)
		}
		fmt.Fprintln(w)
	}
}

// errUsageShown is a usage error whose text was printed already.
var errUsageShown = errors.New("")

func (a *app) unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Root().Commands() {
		names = append(names, c.Name())
	}
	hint := "mailhaul help"
	if strings.Contains(name, "://") {
		// It may hold a password, which is not to be repeated.
		if _, err := location.Parse(name, ""); err != nil {
			return err
		}
	}
	if n := location.Nearest(name, names); n != "" {
		hint = "did you mean 'mailhaul " + n + "'?"
	} else if strings.Contains(name, ":") {
		hint = "did you mean 'mailhaul backup " + name + " ...'?"
	}
	return location.Wrong(hint, "unknown command %q", mail.Clean(name))
}

func unknownFlag(c *cobra.Command, err error) error {
	hint := "mailhaul help " + c.Name()
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if n := location.Nearest(missing.GetSpecifiedName(), names); n != "" {
			hint = "did you mean --" + n + "?"
		}
	}
	return location.Wrong(hint, "%v", err)
}

// args checks how many arguments a command has.
func arguments(n int, form string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return location.Wrong("mailhaul help "+c.Name(), "wrong number of arguments (%d): mailhaul %s", len(args), form)
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}

// accountFlags are those of commands that log in somewhere.
func (a *app) accountFlags(f *pflag.FlagSet) {
	f.StringVar(&a.keys.file, "password-file", "", "read the password from the first line of `FILE` (mode 0600)")
	f.StringVar(&a.keys.command, "password-command", "", "take the password from the first line that `COMMAND` prints")
	f.BoolVar(&a.cleartext, "allow-cleartext", false, "let tls=none send the password unencrypted over the network")
	f.StringArrayVarP(&a.options, "option", "o", nil, "set an option of a location, `NAME=VALUE`; may be repeated")
}

// sideFlags are those of commands that log in on two sides.
func (a *app) sideFlags(f *pflag.FlagSet) {
	for _, k := range []*keyring{&a.fromKeys, &a.toKeys} {
		f.StringVar(&k.file, k.side+"-password-file", "", "the same for "+strings.ToUpper(k.side)+" alone: `FILE`")
		f.StringVar(&k.command, k.side+"-password-command", "", "the same for "+strings.ToUpper(k.side)+" alone: `COMMAND`")
	}
}

func (a *app) outputFlags(f *pflag.FlagSet) {
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say nothing but problems")
	f.BoolVar(&a.json, "json", false, "print events as JSON, one a line, on standard output")
}

// env is what plug-ins may use.
func (a *app) env() location.Env {
	home, _ := os.UserHomeDir()
	return location.Env{Log: slog.New(logger{w: a.err}), Secret: a.secretOf("from"), AllowCleartext: a.cleartext, Home: home, Sleep: pause}
}

// stateDir is where programs keep what they remember for a user (XDG Base
// Directory Specification; on other systems what is usual there). It is empty
// where there is no home.
func (a *app) stateDir() string {
	if dir := a.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mailhaul")
	}
	home, err := os.UserHomeDir()
	switch {
	case err != nil:
		return ""
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support", "mailhaul")
	case runtime.GOOS == "windows":
		return filepath.Join(home, "AppData", "Local", "mailhaul")
	}
	return filepath.Join(home, ".local", "state", "mailhaul")
}

// runner is what a job of this call runs with.
func (a *app) runner(doing string, observe func(pipeline.Event)) *job.Runner {
	sources, sinks := plugins()
	return &job.Runner{Sources: sources, Sinks: sinks, Env: a.env(), State: a.stateDir(), Doing: doing, Observe: observe, Sleep: pause,
		ToSecret: a.secretOf("to"), Planned: a.planned}
}

// withOptions adds those of -o to the location, of several, whose scheme
// knows them.
func (a *app) withOptions(locations ...*string) error {
	sources, sinks := plugins()
	knows := func(raw, option string) bool {
		scheme, _, _ := strings.Cut(raw, ":")
		var options []location.Option
		if s, ok := sources.Lookup(scheme); ok {
			options = s.Options
		}
		if s, ok := sinks.Lookup(scheme); ok {
			options = append(options, s.Options...)
		}
		for _, o := range options {
			if o.Name == option {
				return true
			}
		}
		return false
	}
	for _, o := range a.options {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			return location.Wrong("write -o name=value", "-o %s", o)
		}
		var takers []*string
		for _, l := range locations {
			if knows(*l, name) {
				takers = append(takers, l)
			}
		}
		switch len(takers) {
		case 1:
			*takers[0] = addOption(*takers[0], name, value)
		case 0:
			return location.Wrong("mailhaul help SCHEME lists the options of a kind of location", "-o %s: no location here knows it", name)
		default:
			return location.Wrong("write it behind the location that is meant: ?"+name+"=...", "-o %s: more than one location knows it", name)
		}
	}
	return nil
}

func addOption(raw, name, value string) string {
	sep := "?"
	if strings.Contains(raw, "?") {
		sep = "&"
	}
	return raw + sep + queryEscape(name) + "=" + queryEscape(value)
}

// warn and hint speak to the user on standard error.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "mailhaul: warning: %s\n", fmt.Sprintf(format, args...))
}

func (a *app) hint(text string) {
	if text != "" {
		fmt.Fprintf(a.err, "mailhaul: hint: %s\n", text)
	}
}

// fail says what went wrong and what to do, and gives the exit code.
func (a *app) fail(ctx context.Context, err error) int {
	if errors.Is(err, errUsageShown) {
		return exitUsage
	}
	code, hint := judge(ctx, err)
	if wasInterrupted(ctx, err) {
		fmt.Fprintln(a.err, "mailhaul: interrupted; "+or(a.interrupted, "everything read so far is in the archive, run the same command again to go on"))
		return code
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(a.err, "mailhaul: error: %s\n", line)
	}
	a.hint(hint)
	return code
}

// wasInterrupted reports whether an error is what a signal has led to.
func wasInterrupted(ctx context.Context, err error) bool {
	var i interrupt
	return errors.As(context.Cause(ctx), &i) && errors.Is(err, context.Canceled)
}

// judge is the exit code for an error, and what to do about it.
func judge(ctx context.Context, err error) (code int, hint string) {
	if wasInterrupted(ctx, err) {
		var i interrupt
		errors.As(context.Cause(ctx), &i)
		return i.code(), ""
	}
	var locked *durable.Locked
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		hint = hinter.Hint()
	}
	switch {
	case errors.Is(err, location.ErrUsage):
		return exitUsage, location.Hint(err)
	case errors.Is(err, mail.ErrLogin):
		return exitLogin, or(hint, "check user name and password; many providers want an app password for programs like this one")
	case errors.As(err, &locked):
		return exitLocked, "wait until that run has ended; a run that died holds no lock"
	case errors.Is(err, catalog.ErrDamaged):
		return exitDamaged, "the mail itself is not touched: 'mailhaul repair ARCHIVE' makes the catalog anew from manifest and mail"
	case errors.Is(err, catalog.ErrOtherAccount):
		return exitUsage, "choose another directory, or give --add-account to keep both accounts in this one"
	case errors.Is(err, errDeclined):
		return exitFailed, ""
	case errors.Is(err, sink.ErrFull):
		return exitLater, "make room at the destination and run the same command again: what is there stays, and it goes on from there"
	case errors.Is(err, catalog.ErrForeign):
		return exitFailed, "choose an empty or new directory; an archive whose catalog was lost wants 'mailhaul repair' first"
	case errors.Is(err, catalog.ErrNone):
		return exitFailed, "name the directory that a backup has written to; if its catalog was lost: mailhaul repair ARCHIVE"
	case errors.Is(err, catalog.ErrOtherFormat):
		return exitUsage, "write to it in the format and layout that it has, or choose another directory"
	case durable.Full(err):
		return exitFailed, or(hint, "make room and run the same command again: what is stored stays, and it goes on from there")
	case errors.Is(err, syscall.EFBIG):
		return exitFailed, or(hint, "no file may grow so large here: raise the limit (ulimit -f), or choose another file system")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return exitFailed, or(hint, "choose a directory with a shorter path")
	case errors.Is(err, fs.ErrPermission):
		return exitFailed, or(hint, "check who owns the directory and may write to it")
	case errors.Is(err, syscall.EROFS):
		return exitFailed, or(hint, "this place is for reading only: choose another, or have it mounted for writing")
	case errors.Is(err, syscall.ENOTDIR):
		return exitFailed, or(hint, "something on the way to the directory is a file")
	case mail.Temporary(err):
		return exitLater, or(hint, "try again later; what is stored stays, and the next run goes on from there")
	}
	return exitFailed, hint
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
