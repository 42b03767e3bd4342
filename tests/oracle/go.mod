module hostledger.example/oracle

go 1.25.0

require (
	github.com/transparency-dev/formats v0.0.0-20251017110053-404c0d5b696c
	github.com/transparency-dev/merkle v0.0.2
	golang.org/x/mod v0.33.0
)
