// Package testvectors holds the vectors that every implementation replays and reads them for tests.
package testvectors
