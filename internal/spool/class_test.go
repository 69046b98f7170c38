package spool

import "testing"

// TestClass: a body gets the smallest buffer that holds it.
func TestClass(t *testing.T) {
	for n := range int64(Large + 2) {
		c := class(n)
		if room(c) < n || c > 0 && room(c-1) >= n {
			t.Fatalf("%d bytes get a buffer of %d", n, room(c))
		}
	}
	if c := class(Large); c >= len(Spool{}.classes) {
		t.Errorf("there is no class %d", c)
	}
	if room(pieceClass) != piece+2 {
		t.Errorf("a piece has %d bytes, its buffer %d", piece, room(pieceClass))
	}
}
