package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writable says why writeFile would fail, before anything is waited for.
func writable(path string) error {
	// A file takes the place of what is there, which a device or a pipe would not survive.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--output=%s: not a regular file: name a file, or leave out --output and redirect", path)
	}
	f, err := temporary(path)
	if err != nil {
		return err
	}
	return discard(path, f)
}

// writeFile writes a file that everybody may read, whole or not at all.
func writeFile(path string, chunks [][]byte) error {
	f, err := temporary(path)
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		if err == nil {
			_, err = f.Write(chunk)
		}
	}
	for _, step := range []func() error{
		func() error { return f.Chmod(0o644) },
		f.Sync,
		f.Close,
		func() error { return os.Rename(f.Name(), path) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		_ = discard(path, f)
		return fault(path, err)
	}
	return nil
}

// temporary returns a file in the same directory. Its name does not end like the other's,
// so that nobody takes it for one.
func temporary(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, fault(path, err)
	}
	return f, nil
}

// discard removes a temporary file.
func discard(path string, f *os.File) error {
	_ = f.Close() // it may be closed
	if err := os.Remove(f.Name()); err != nil {
		return fault(path, err)
	}
	return nil
}

// fault leaves out of an error the name of the temporary file.
func fault(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("--output=%s cannot be written: %w", path, err)
}
