package pop3conn

import (
	"context"
	"fmt"

	"mailhaul/internal/netconn"
)

// startTLS brings TLS to a line that was greeted in clear text (RFC 2595,
// section 4). It is strict, for everything up to here can be forged by whoever
// sits on the line: no answer but +OK is taken, and bytes that came behind it
// end the connection: they would be read as if they had come protected.
func (c *Conn) startTLS(ctx context.Context, o *Options) error {
	s, err := c.say("STLS")
	switch {
	case err != nil:
		return err
	case !s.OK:
		return netconn.Advise(fmt.Errorf("%w: the server does not offer STLS (%v)", ErrSecurity, &s), "try pop3s://")
	case c.br.Buffered() > 0:
		return fmt.Errorf("%w: there are bytes on the line that do not belong there: somebody may be listening", ErrSecurity)
	}
	if err := c.nc.StartTLS(ctx, o.tls()); err != nil {
		return err
	}
	c.br.Reset(c.nc)
	return nil
}
