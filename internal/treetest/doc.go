// Package treetest holds the repository to its own rules: who imports whom, how large code grows and what is never committed.
package treetest
