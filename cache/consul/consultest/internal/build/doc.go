// Package build compiles the programs of the nested module sdk once per machine and finds them again.
package build
