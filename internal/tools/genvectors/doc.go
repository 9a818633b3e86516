// Command genvectors writes the decision vectors that every client replays, with answers of its own slow evaluator and not of the engine.
package main
