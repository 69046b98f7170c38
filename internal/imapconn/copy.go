package imapconn

import (
	"context"
	"strconv"
	"strings"
)

// Copied is what the server tells of a copy (RFC 4315, section 3): the n-th of
// From has become the n-th of To. A message that was not there is not named.
type Copied struct {
	Validity uint32 // of the folder that was copied to
	From, To []uint32
}

// Copy copies messages of the open folder to another one, which may be this
// one, with their flags and dates: all that are there, or none (RFC 3501, section
// 6.4.7). Where the server tells nothing of them, or nothing that can be
// understood, the zero Copied is returned.
func (c *Conn) Copy(ctx context.Context, set, name string) (Copied, error) {
	stop := c.nc.Follow(ctx)
	defer stop()
	done, err := c.run(dropAll, c.astring("UID COPY "+set+" ", name, "")...)
	if err != nil {
		return Copied{}, c.folder("copy", err)
	}
	if done.Code != "COPYUID" {
		return Copied{}, nil
	}
	return copyUID(done.Arg), nil
}

// copyUID reads "38505 304,319:320 3956:3958".
func copyUID(arg string) Copied {
	words := strings.Fields(arg)
	if len(words) != 3 {
		return Copied{}
	}
	n, err := strconv.ParseUint(words[0], 10, 32)
	d := Copied{uint32(n), parseSet(words[1]), parseSet(words[2])}
	if err != nil || n == 0 || d.From == nil || len(d.From) != len(d.To) {
		return Copied{}
	}
	return d
}
