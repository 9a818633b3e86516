// Package reference decides by policy documents as slowly and as obviously as possible, from the specification alone and without any code of the engine.
package reference
