//go:build !unix

package sinktest

import "testing"

func testModes(t *testing.T, _ Opener) { t.Skip("no modes here") }
