package cmd

import (
	"bufio"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestDemo_Succeeds(t *testing.T) {
	t.Parallel()
	out, err := command("demo", "--once").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"page       http://", "signature ok", "dropped: a test order", "delivered to nobody", "Order 9007199254740993 of Grace <g@example.com>: 250 USD", "Everything came through"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "level=") {
		t.Errorf("the demo logs:\n%s", out)
	}
}

// As in "switchhook demo --once | head -0": the reader closes the pipe before everything is
// written.
func TestDemo_CleansUpOnClosedPipe(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, flags := range [][]string{{"demo", "--once"}, {"demo"}} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := command(flags...)
		c.Env, c.Stdout = append(c.Env, "TMPDIR="+folder), write
		read.Close()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		c.Wait()
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 || c.ProcessState.ExitCode() != pipeClosed {
			t.Errorf("%v left, %v, %v", left, err, c.ProcessState)
		}
	}
}

func TestDemo_CleansUpOnSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM, os.Interrupt} {
		folder := t.TempDir()
		c := command("demo")
		c.Env = append(c.Env, "TMPDIR="+folder)
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stdout)
		lines.ReadString('\n')
		c.Process.Signal(s)
		io.Copy(io.Discard, lines)
		c.Wait()
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 || c.ProcessState.ExitCode() < 0 {
			t.Errorf("%v: %v left, %v, %v", s, left, err, c.ProcessState)
		}
	}
}
