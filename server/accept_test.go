package server_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/server"
)

// failingListener gives a connection after its errors.
type failingListener struct {
	net.Listener
	errors   []error
	accepted []time.Time
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.accepted = append(l.accepted, time.Now())
	if len(l.errors) == 0 {
		conn, _ := net.Pipe()
		return conn, nil
	}
	err := l.errors[0]
	if len(l.errors) > 1 || !errors.Is(err, syscall.ENFILE) { // the last ENFILE stays
		l.errors = l.errors[1:]
	}
	return nil, err
}

func (l *failingListener) Addr() net.Addr { return &net.TCPAddr{} }
func (l *failingListener) Close() error   { return nil }

func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}

func TestRetryAccept_RetriesTemporaryErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.ENETDOWN} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			failing := &failingListener{errors: slices.Repeat([]error{acceptError(errno)}, 10)}
			l := server.RetryAccept(failing, slog.New(slog.NewTextHandler(&log, nil)))
			conn, err := l.Accept()
			if err != nil || conn == nil {
				t.Fatalf("%v: %v", errno, err)
			}
			pause := 5 * time.Millisecond
			for i := range 10 {
				if got := failing.accepted[i+1].Sub(failing.accepted[i]); got != pause {
					t.Errorf("%v: pause %d is %s, want %s", errno, i, got, pause)
				}
				pause = min(2*pause, time.Second)
			}
			if got := strings.Count(log.String(), "no connection can be accepted now"); got != 1 || !strings.Contains(log.String(), errno.Error()) {
				t.Errorf("%v: logged %d times: %s", errno, got, log.String())
			}
		})
	}
}

func TestRetryAccept_LogsOncePerMinuteAndStopsOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := server.RetryAccept(&failingListener{errors: []error{acceptError(syscall.ENFILE)}}, slog.New(slog.NewTextHandler(&log, nil)))
		ended := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		time.Sleep(5*time.Minute + time.Millisecond)
		check(t, l.Close())
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept ended with %v", err)
		}
		if got := strings.Count(log.String(), "\n"); got != 5 && got != 6 {
			t.Errorf("logged %d times in 5 minutes", got)
		}
		if !strings.Contains(log.String(), "failures=60") {
			t.Errorf("the failures are not counted: %s", log.String())
		}
	})
}

func TestRetryAccept_ReturnsOtherErrors(t *testing.T) {
	for _, err := range []error{acceptError(syscall.EBADF), acceptError(syscall.EINVAL), net.ErrClosed, io.EOF} {
		l := server.RetryAccept(&failingListener{errors: []error{err}}, slog.New(slog.DiscardHandler))
		if _, got := l.Accept(); !errors.Is(got, err) {
			t.Errorf("%v: Accept ended with %v", err, got)
		}
	}
}
