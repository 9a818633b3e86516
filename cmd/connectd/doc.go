// Command connectd runs the daemon, and shows and explains what it serves.
package main
