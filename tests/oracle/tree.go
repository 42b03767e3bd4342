package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// tree holds the same leaves in two independent implementations, which must agree with each other before
// either judges us.
type tree struct {
	leaves int64
	stored hashes
	ranges *compact.Range
	roots  [][]byte
}

// hashes is the storage that x/mod's tlog reads.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(h)) {
			return nil, fmt.Errorf("no stored hash %d", index)
		}
		out[i] = h[index]
	}
	return out, nil
}

func newTree() *tree {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	return &tree{ranges: factory.NewEmptyRange(0), roots: [][]byte{rfc6962.DefaultHasher.EmptyRoot()}}
}

func (t *tree) append(entry []byte) error {
	stored, err := tlog.StoredHashes(t.leaves, entry, t.stored)
	if err != nil {
		return err
	}
	t.stored = append(t.stored, stored...)
	if err := t.ranges.Append(rfc6962.DefaultHasher.HashLeaf(entry), nil); err != nil {
		return err
	}
	root, err := t.ranges.GetRootHash(nil)
	if err != nil {
		return err
	}
	t.roots = append(t.roots, root)
	t.leaves++
	return nil
}

func (t *tree) root(size int64) (tlog.Hash, error) {
	if size < 0 || size > t.leaves {
		return tlog.Hash{}, fmt.Errorf("size %d of %d leaves", size, t.leaves)
	}
	root, err := tlog.TreeHash(size, t.stored)
	if size == 0 {
		// x/mod leaves the empty tree's root at zero; RFC 6962 does not.
		root = tlog.Hash(t.roots[0])
	}
	if err == nil && !bytes.Equal(root[:], t.roots[size]) {
		err = fmt.Errorf("the two libraries disagree on the root of %d leaves", size)
	}
	return root, err
}

func (t *tree) leafHash(index int64) (tlog.Hash, error) {
	found, err := t.stored.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return tlog.Hash{}, err
	}
	return found[0], nil
}

func (t *tree) proveInclusion(indexWord, sizeWord string) (string, error) {
	index, size, err := parsePair(indexWord, sizeWord)
	if err != nil {
		return "", err
	}
	path, err := tlog.ProveRecord(size, index, t.stored)
	return join(path), err
}

func (t *tree) proveConsistency(oldWord, newWord string) (string, error) {
	before, after, err := parsePair(oldWord, newWord)
	if err != nil {
		return "", err
	}
	path, err := tlog.ProveTree(after, before, t.stored)
	return join(path), err
}

func (t *tree) checkInclusion(indexWord, sizeWord, list string) error {
	index, size, err := parsePair(indexWord, sizeWord)
	if err != nil {
		return err
	}
	path, err := parseHashes(list)
	if err != nil {
		return err
	}
	root, err := t.root(size)
	if err != nil {
		return err
	}
	leaf, err := t.leafHash(index)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(tlogPath(path), size, root, index, leaf); err != nil {
		return fmt.Errorf("sumdb/tlog: %w", err)
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), leaf[:], path, root[:])
}

func (t *tree) checkConsistency(oldWord, newWord, list string) error {
	before, after, err := parsePair(oldWord, newWord)
	if err != nil {
		return err
	}
	path, err := parseHashes(list)
	if err != nil {
		return err
	}
	oldRoot, err := t.root(before)
	if err != nil {
		return err
	}
	newRoot, err := t.root(after)
	if err != nil {
		return err
	}
	// x/mod knows no consistency from the empty tree.
	if before > 0 {
		if err := tlog.CheckTree(tlogPath(path), after, newRoot, before, oldRoot); err != nil {
			return fmt.Errorf("sumdb/tlog: %w", err)
		}
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(before), uint64(after), path, oldRoot[:], newRoot[:])
}

func tlogPath(path [][]byte) []tlog.Hash {
	out := make([]tlog.Hash, len(path))
	for i, hash := range path {
		out[i] = tlog.Hash(hash)
	}
	return out
}

func join(path []tlog.Hash) string {
	if len(path) == 0 {
		return "-"
	}
	words := make([]string, len(path))
	for i, hash := range path {
		words[i] = hex.EncodeToString(hash[:])
	}
	return strings.Join(words, ",")
}
