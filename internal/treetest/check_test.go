package treetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const module = "github.com/connectd/connectd"

// A graph holds what each package imports directly in non-test files, whatever their
// build tags. Paths of ours, those of nested modules included, start with "./".
type graph map[string][]string

// matches reports whether one of the space-separated patterns describes path.
func matches(patterns, path string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		switch pattern {
		case "...":
			return true
		case "std":
			return isStandard(path)
		}
		tree, ok := strings.CutSuffix(pattern, "/...")
		return path == tree || ok && strings.HasPrefix(path, tree+"/")
	})
}

// isStandard goes by the rule of the go command: only others have a dot in the first element.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// about reports whether the rule is about package pkg.
func (r rule) about(pkg string) bool { return matches(r.from, pkg) && !matches(r.other, pkg) }

// violations lists each import that the rules forbid, with the reason.
func violations(g graph, rules []rule) []string {
	var found []string
	for _, pkg := range sorted(g) {
		for _, r := range rules {
			if !r.about(pkg) {
				continue
			}
			for _, path := range g[pkg] {
				if matches(r.imports, path) && !matches(r.except, path) {
					found = append(found, fmt.Sprintf("%s imports %s: %s", pkg, path, r.reason))
				}
			}
		}
	}
	return found
}

// vacuous lists the patterns of ours that name no package: what is planned, or misspelt.
func vacuous(g graph, rules []rule) []string {
	found := map[string]bool{}
	for _, r := range rules {
		for pattern := range strings.FieldsSeq(r.from + " " + r.other) {
			named := slices.ContainsFunc(sorted(g), func(pkg string) bool { return matches(pattern, pkg) })
			if strings.HasPrefix(pattern, "./") && !named {
				found[pattern] = true
			}
		}
	}
	return sorted(found)
}

// unplaced lists the packages that no row of the order is about.
func unplaced(g graph, order []rule) []string {
	return slices.DeleteFunc(sorted(g), func(pkg string) bool {
		return slices.ContainsFunc(order, func(r rule) bool { return r.about(pkg) })
	})
}

// closure returns everything that pkg reaches through packages of ours.
func (g graph) closure(pkg string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(path string) {
		for _, next := range g[path] {
			if !seen[next] {
				seen[next] = true
				visit(next)
			}
		}
	}
	visit(pkg)
	return slices.Sorted(maps.Keys(seen))
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
