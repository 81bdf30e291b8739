package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

// children lists the processes that this one has started.
func children(t *testing.T) (pids []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	for _, task := range tasks {
		list, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(list)) {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// A kernel that is short of memory kills any process. The script that was on has not done it.
func TestProcessKilledFromOutsideCostsNoRun(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 2, Limits: func() scripts.Limits {
		l := scripts.DefaultLimits()
		l.Soft, l.Hard = 10*time.Second, 20*time.Second
		return l
	}()})
	prog := compile(t, p, `export default e => { for (let i = 0; i < 1e6; i++); return [e.data] }`)
	type outcome struct {
		res scripts.Result
		err error
	}
	for i := range 3 {
		out := make(chan outcome, 1)
		go func() {
			res, err := p.Run(context.Background(), prog, event(strconv.Itoa(i)), post)
			out <- outcome{res, err}
		}()
		time.Sleep(20 * time.Millisecond) // it is on by then, or waits: both must end well
		for _, pid := range children(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if got := <-out; got.err != nil || string(got.res.Body) != fmt.Sprintf("[%d]", i) {
			t.Errorf("run %d: %s %v", i, got.res.Body, got.err)
		}
	}
	if s := p.Stats(); s.Ended[sandbox.EndedCrash] == 0 {
		t.Errorf("nothing was killed: %+v", s)
	}
}
