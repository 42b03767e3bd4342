package main

import (
	"encoding/hex"
	"fmt"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// openCosigned wants both the log's signature and the witness's, and takes the time as formats reads it.
func openCosigned(vkey, wkey, noteHex string) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", err
	}
	witness, err := formats.NewVerifierForCosignatureV1(wkey)
	if err != nil {
		return "", err
	}
	signed, err := hex.DecodeString(noteHex)
	if err != nil {
		return "", err
	}
	_, _, opened, err := log.ParseCheckpoint(signed, verifier.Name(), verifier, witness)
	if err != nil {
		return "", err
	}
	for _, signature := range opened.Sigs {
		if signature.Name == witness.Name() && signature.Hash == witness.KeyHash() {
			time, err := formats.CoSigV1Timestamp(signature)
			return fmt.Sprint(time.Unix()), err
		}
	}
	return "", fmt.Errorf("no cosignature of %s", witness.Name())
}

func cosign(skey, vkey, noteHex string) (string, error) {
	signer, err := formats.NewSignerForCosignatureV1(skey)
	if err != nil {
		return "", err
	}
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
	cosigned, err := note.Sign(opened, signer)
	return hex.EncodeToString(cosigned), err
}
