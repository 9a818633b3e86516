// Command connectd-bench measures connectd beside what it is compared with, in one run on one machine.
package main
