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

// children returns the ids of the processes that this one has started.
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

// A kernel that is short of memory kills any process. The current script is not the cause.
func TestPool_ExternalKillRetriesRun(t *testing.T) {
	limits := scripts.DefaultLimits()
	limits.Soft, limits.Hard = 4*time.Second, 5*time.Second
	p := start(t, sandbox.Config{Processes: 1, Limits: limits})
	prog := compile(t, p, `export default e => { for (let i = 0; i < e.data; i++); return [e.data] }`)
	run := func(rounds int) (time.Duration, error) {
		res, err := p.Run(context.Background(), prog, event(strconv.Itoa(rounds)), post)
		if want := fmt.Sprintf("[%d]", rounds); err == nil && string(res.Body) != want {
			err = fmt.Errorf("it gave %s, not %s", res.Body, want)
		}
		return res.CPU, err
	}
	const few = 20_000
	once, err := run(few)
	if err != nil {
		t.Fatal(err)
	}
	long := few * int(300*time.Millisecond/max(once, time.Millisecond))
	for i := range 3 {
		if _, err := run(few); err != nil { // the process is running
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := run(long)
			done <- err
		}()
		for p.Stats().Running == 0 {
			time.Sleep(time.Millisecond)
		}
		for _, pid := range children(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := <-done; err != nil {
			t.Errorf("run %d: %v", i, err)
		}
	}
	if s := p.Stats(); s.Ended[sandbox.EndedCrash] != 3 {
		t.Errorf("not three were killed: %+v", s)
	}
}
