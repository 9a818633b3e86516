package consultest

import (
	"os"
	"os/exec"
	"runtime"
	"time"
)

// A process is one running child. Exited is closed after it was waited for.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// startProcess starts cmd so that it dies with the test binary. The kernel ties that to
// the thread which started it, so one goroutine keeps its thread until the child is gone.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// The exit status says nothing: an agent without leave_on_terminate always fails.
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, err
	}
	return p, nil
}

// signal reports nothing, because the only failure is that the process is gone already.
func (p *process) signal(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig)
}

// running says whether the process has not been waited for.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// end sends sig, and SIGKILL when the process is still there after grace, and waits for it.
func (p *process) end(sig os.Signal, grace time.Duration) {
	p.signal(sig)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.signal(os.Kill)
		<-p.exited
	}
}
