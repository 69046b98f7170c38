//go:build !windows

package spool

import "os"

// unnamed makes a file that goes when it is closed, also when the process
// dies.
func unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func dispose(*os.File) {}
