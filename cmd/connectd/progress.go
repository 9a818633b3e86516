package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// waiting shows on a terminal how long call has taken, and removes the line
// when it is over. Elsewhere it shows nothing.
func waiting(w io.Writer, what string, call func()) {
	if !isTerminal(w) {
		call()
		return
	}
	showProgress(w, what, call)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// eraseLine goes to the start of the line and clears it.
const eraseLine = "\r\x1b[K"

func showProgress(w io.Writer, what string, call func()) {
	begin := time.Now()
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for shown := false; ; shown = true {
			select {
			case <-done:
				if shown {
					fmt.Fprint(w, eraseLine)
				}
				return
			case at := <-tick.C:
				fmt.Fprintf(w, "%swaiting for %s ... %s", eraseLine, oneLine(what), span(at.Sub(begin)))
			}
		}
	})
	call()
	close(done)
	showing.Wait()
}
