package pipeline

import (
	"context"
	"errors"
	"time"

	"mailhaul/internal/mail"
)

// Pauses between tries of one thing that fails for a passing reason. Progress
// refills them.
const (
	tries      = 6
	firstPause = time.Second
	mostPause  = 2 * time.Minute
)

// retry calls f until it succeeds, fails for good, or has failed too often in
// a row. f tells whether it came any further.
func (r *run) retry(ctx context.Context, folder mail.Path, f func() (progress bool, err error)) error {
	pause := firstPause
	for n := 1; ; n++ {
		progress, err := f()
		if err == nil || !mail.Temporary(err) || ctx.Err() != nil {
			return err
		}
		if progress {
			n, pause = 1, firstPause
		}
		if n >= tries {
			return err
		}
		wait := pause
		var e *mail.Error
		if errors.As(err, &e) && e.After > wait {
			wait = e.After // announced by the server: it wins
		}
		r.observe(Event{Kind: Retrying, Folder: folder, Count: int64(n), Err: err})
		if err := r.Options.Sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, mostPause)
	}
}
