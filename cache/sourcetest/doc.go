// Package sourcetest is one behaviour suite that every cache.Source passes.
package sourcetest
