// Command mutate changes a package in one small place after another and tells which changes its tests do not notice.
package main
