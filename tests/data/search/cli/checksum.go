package main

import (
	"crypto/sha256"
	"encoding/hex"
)

// Checksum is the SHA-256 of a file's content, to detect corruption.
func Checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
