package durable

import "time"

// An Effect is a change of the disk that has been made: what Step announced,
// with all that is needed to make it once more elsewhere.
type Effect struct {
	Op    string    // as Step has it
	Name  string    // whole path of what was changed; of a link and a rename the new name
	From  string    // link, rename: the old one
	At    int64     // write: the offset, -1 for the end of the file
	Bytes []byte    // write: what was written, valid until Made returns
	Size  int64     // truncate
	Time  time.Time // settime
}

// Made is nil in the shipped program. Tests set it, as Step, to keep a record
// of what was changed and synced, from which they make a disk that has
// forgotten some of it. It is called after each call that Step was asked about
// and that did not fail, and from several goroutines.
var Made func(Effect)

func made(e Effect, err error) error {
	if Made != nil && err == nil {
		Made(e)
	}
	return err
}
