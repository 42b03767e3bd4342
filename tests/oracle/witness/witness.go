//go:build tools

// Package witness names a witness that others wrote, so that go.mod and go.sum hold its exact version.
package witness

import (
	_ "github.com/transparency-dev/merkle/proof"
	_ "github.com/transparency-dev/witness/cmd/omniwitness"
)
