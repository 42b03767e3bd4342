package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

func openNote(vkey, noteHex string) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", err
	}
	signed, err := hex.DecodeString(noteHex)
	if err != nil {
		return "", err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return "", err
	}
	return hex.EncodeToString([]byte(opened.Text)), nil
}

func parseCheckpoint(vkey string, signed []byte) (*log.Checkpoint, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	checkpoint, rest, _, err := log.ParseCheckpoint(signed, verifier.Name(), verifier)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("extension lines %q", rest)
	}
	return checkpoint, err
}

func openCheckpoint(vkey, noteHex string) (string, error) {
	signed, err := hex.DecodeString(noteHex)
	if err != nil {
		return "", err
	}
	checkpoint, err := parseCheckpoint(vkey, signed)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %x", checkpoint.Size, checkpoint.Hash), nil
}

func signNote(skey, textHex string) (string, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return "", err
	}
	text, err := hex.DecodeString(textHex)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	return hex.EncodeToString(signed), err
}

// checkReceipt reads https://c2sp.org/tlog-proof by its text; no public Go package does so yet.
func checkReceipt(vkey, entryHex, receiptHex string) error {
	entry, err := hex.DecodeString(entryHex)
	if err != nil {
		return err
	}
	receipt, err := hex.DecodeString(receiptHex)
	if err != nil {
		return err
	}
	head, signed, found := strings.Cut(string(receipt), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a tlog-proof: %q", head)
	}
	word, isIndex := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseUint(word, 10, 64)
	if !isIndex || err != nil {
		return fmt.Errorf("no index in %q", lines[1])
	}
	var path [][]byte
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}
	checkpoint, err := parseCheckpoint(vkey, []byte(signed))
	if err != nil {
		return err
	}
	hasher := rfc6962.DefaultHasher
	return proof.VerifyInclusion(hasher, index, checkpoint.Size, hasher.HashLeaf(entry), path, checkpoint.Hash)
}
