// The oracle judges Hostledger's trees, proofs, notes and receipts with public Go libraries.
//
// It reads one request a line from standard input and answers each with one line: "ok", optionally followed
// by data, or "bad" and the reason. Hashes and bytes are lower-case hex, lists are joined by commas, an empty
// list is "-". Nothing of Hostledger's own code is used here; that is the point.
package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var errUsage = errors.New("malformed request")

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	out := bufio.NewWriter(os.Stdout)
	t := newTree()
	for lines.Scan() {
		answer, err := handle(t, strings.Split(lines.Text(), " "))
		if err != nil {
			fmt.Fprintf(out, "bad %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(out, strings.TrimSpace("ok "+answer))
		}
		out.Flush()
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// handle answers one request. Requests are:
//
//	leaf ENTRY                        appends a leaf to the oracle's own tree
//	root SIZE                         the root of the first SIZE leaves
//	prove-inclusion INDEX SIZE        the oracle's own proof
//	prove-consistency OLD NEW         the oracle's own proof
//	inclusion INDEX SIZE PROOF        checks our proof
//	consistency OLD NEW PROOF         checks our proof
//	note VKEY NOTE                    opens our note; answers its text
//	checkpoint VKEY NOTE              opens our checkpoint; answers size and root
//	sign SKEY TEXT                    signs a note for us to open
//	cosigned VKEY WKEY NOTE           opens our cosigned checkpoint; answers the cosignature's time
//	cosign SKEY VKEY NOTE             cosigns our checkpoint as a witness; answers the note
//	receipt VKEY ENTRY RECEIPT        checks a C2SP tlog-proof
func handle(t *tree, words []string) (string, error) {
	args := words[1:]
	switch {
	case words[0] == "leaf" && len(args) == 1:
		entry, err := hex.DecodeString(args[0])
		if err != nil {
			return "", err
		}
		return "", t.append(entry)
	case words[0] == "root" && len(args) == 1:
		size, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return "", err
		}
		root, err := t.root(size)
		return hex.EncodeToString(root[:]), err
	case words[0] == "prove-inclusion" && len(args) == 2:
		return t.proveInclusion(args[0], args[1])
	case words[0] == "prove-consistency" && len(args) == 2:
		return t.proveConsistency(args[0], args[1])
	case words[0] == "inclusion" && len(args) == 3:
		return "", t.checkInclusion(args[0], args[1], args[2])
	case words[0] == "consistency" && len(args) == 3:
		return "", t.checkConsistency(args[0], args[1], args[2])
	case words[0] == "note" && len(args) == 2:
		return openNote(args[0], args[1])
	case words[0] == "checkpoint" && len(args) == 2:
		return openCheckpoint(args[0], args[1])
	case words[0] == "sign" && len(args) == 2:
		return signNote(args[0], args[1])
	case words[0] == "cosigned" && len(args) == 3:
		return openCosigned(args[0], args[1], args[2])
	case words[0] == "cosign" && len(args) == 3:
		return cosign(args[0], args[1], args[2])
	case words[0] == "receipt" && len(args) == 3:
		return "", checkReceipt(args[0], args[1], args[2])
	}
	return "", errUsage
}

func parseHashes(list string) ([][]byte, error) {
	if list == "-" {
		return nil, nil
	}
	var hashes [][]byte
	for _, word := range strings.Split(list, ",") {
		hash, err := hex.DecodeString(word)
		if err != nil {
			return nil, err
		}
		if len(hash) != 32 {
			return nil, fmt.Errorf("hash of %d bytes", len(hash))
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

func parsePair(a, b string) (int64, int64, error) {
	first, err := strconv.ParseInt(a, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	second, err := strconv.ParseInt(b, 10, 64)
	return first, second, err
}
