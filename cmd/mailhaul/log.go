package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"mailhaul/internal/mail"
)

// A logger gives what plug-ins have to say the program's voice: a line that
// begins with its name. Only warnings and errors are shown.
type logger struct {
	w     io.Writer
	attrs []slog.Attr
}

func (l logger) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l logger) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "mailhaul: %s: %s", strings.ReplaceAll(strings.ToLower(r.Level.String()), "warn", "warning"), mail.Clean(r.Message))
	sep := ": "
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, "%s%s %s", sep, a.Key, mail.Clean(a.Value.String()))
		sep = ", "
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	_, err := io.WriteString(l.w, b.String())
	return err
}

func (l logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.attrs = append(append([]slog.Attr(nil), l.attrs...), attrs...)
	return l
}

func (l logger) WithGroup(string) slog.Handler { return l }
