package spool

import "os"

// unnamed makes a file that dispose removes: Windows keeps open files named.
func unnamed(dir string) (*os.File, error) { return os.CreateTemp(dir, "spool-*") }

func dispose(f *os.File) { os.Remove(f.Name()) }
