// Command sdkapp is an application of Consul's own Connect SDK that tests drive
// by JSON lines, to show that such an application runs unmodified.
package main
