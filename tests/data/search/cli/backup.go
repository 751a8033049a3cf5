package main

import "os"

// Archive is a compressed copy of a folder.
type Archive struct {
	Path  string
	Files []string
}

// CopyTree copies a folder with everything below it.
func CopyTree(from, to string) error {
	return os.CopyFS(to, os.DirFS(from))
}

// Prune deletes all backups but the newest ones.
func (a *Archive) Prune(keep int) {
	for len(a.Files) > keep {
		os.Remove(a.Files[0])
		a.Files = a.Files[1:]
	}
}
