package secret

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"pass show mail/ann", []string{"pass", "show", "mail/ann"}},
		{"  a  'b c' \"d 'e\" f\\ g ''", []string{"a", "b c", "d 'e", "f g", ""}},
		{`a 'b\c' "d\"e"`, []string{"a", `b\c`, `d"e`}},
		{"", nil},
	} {
		got, err := split(c.line)
		if diff := cmp.Diff(got, c.want); diff != "" || err != nil {
			t.Errorf("%q: %v %s", c.line, err, diff)
		}
	}
	for _, line := range []string{"a 'b", `a "b`, `a \`} {
		if _, err := split(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pw")
	os.WriteFile(name, []byte("s3cret\r\nmore\n"), 0o600)
	if got, err := File(name); got != "s3cret" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if runtime.GOOS != "windows" {
		os.Chmod(name, 0o644)
		if _, err := File(name); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error is %v", err)
		}
	}
	os.WriteFile(name+"0", nil, 0o600)
	if _, err := File(name + "0"); err == nil {
		t.Error("an empty file gave a password")
	}
}

func TestCommand(t *testing.T) {
	if got, err := Command(t.Context(), "echo 's3 cret'"); got != "s3 cret" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	for _, line := range []string{"false", "true", "", "/nowhere/at-all"} {
		if _, err := Command(t.Context(), line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}
