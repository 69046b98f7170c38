package job

import (
	"context"
	"net/url"
	"strings"

	"mailhaul/internal/mail"
	"mailhaul/internal/repair"
	"mailhaul/sink"
)

// Repair makes the catalog of an archive anew, which is named by its directory
// or by a location.
func (r *Runner) Repair(ctx context.Context, name string, progress func(folder mail.Path, messages, bytes int64)) (*repair.Result, string, error) {
	dir, l, err := r.directory(name)
	if err != nil {
		return nil, "", err
	}
	result, err := repair.Run(ctx, repair.Options{
		Dir: dir, Format: l.Scheme, Layout: layoutOf(l.Option), Doing: r.Doing, Progress: progress,
		Open: func(ctx context.Context, format, layout string) (sink.Sink, error) {
			return r.sinkAt(ctx, dir, format, layout)
		},
	})
	return result, dir, err
}

// layoutOf are the options that decide what the bytes look like.
func layoutOf(option url.Values) string {
	var layout []string
	for _, o := range []string{"layout", "status"} {
		if v := option.Get(o); v != "" && v != "no" && v != "nested" {
			// A "+" of a location comes as a blank, unless it was written %2B.
			layout = append(layout, o+"="+strings.ReplaceAll(v, " ", "+"))
		}
	}
	return strings.Join(layout, "&")
}
