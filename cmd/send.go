package cmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"switchhook/server/api"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

type sendCommand struct {
	clientFlags `embed:""`
	Type        string `arg:"" optional:"" help:"Event type, such as order.created."`
	Data        string `arg:"" optional:"" help:"The payload as JSON; @FILE reads a file, - reads standard input. By default {}." multiline:"" maxlen:"16777216"`
	File        string `help:"File with an event on each line: {\"type\": …, \"data\": …}, or just the payload where TYPE is given; - is standard input." placeholder:"FILE"`
	ID          string `name:"id" help:"Your own id for the event; publishing it again changes nothing." placeholder:"ID"`
	Account     string `help:"Account to publish in; another one than the key's own needs an admin key." placeholder:"NAME"`
	Batch       int    `help:"Events per request, with --file." default:"200" placeholder:"N" min:"1" max:"1000"`
}

// Help implements kong.HelpProvider.
func (*sendCommand) Help() string {
	return `The payload is checked against the event type's JSON Schema, if it has one.

  switchhook send order.created '{"id": 1001, "total": 120}'
  echo '{"id": 1002, "total": 20}' | switchhook send order.created -
  echo '{"type": "order.paid", "data": {"id": 1002}}' | switchhook send --file -`
}

// Run publishes an event or a file.
func (c *sendCommand) Run(ctx context.Context) error {
	router, err := c.client()
	if err != nil {
		return err
	}
	if c.File != "" {
		return c.sendFile(ctx, router)
	}
	if c.Type == "" {
		return errors.New("give an event type, such as: switchhook send order.created '{\"id\": 1001, \"total\": 120}'")
	}
	data, err := payloadArgument(c.Data)
	if err != nil {
		return err
	}
	answer, err := router.Publish(ctx, api.PublishRequest{ID: c.ID, Account: c.Account, Type: c.Type, Data: data})
	if err != nil {
		return err
	}
	fmt.Printf("accepted %s, matched %d %s\n", printable(answer.ID), answer.Matched, plural(answer.Matched, "subscription"))
	return nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// payloadArgument reads the payload that an argument names.
func payloadArgument(text string) (data json.RawMessage, err error) {
	file, isFile := strings.CutPrefix(text, "@")
	switch {
	case text == "":
		return json.RawMessage("{}"), nil
	case text == "-":
		data, err = io.ReadAll(os.Stdin)
	case isFile:
		data, err = os.ReadFile(file)
	default:
		data = json.RawMessage(text)
	}
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); !json.Valid(data) {
		if _, err := os.Stat(text); err == nil {
			return nil, fmt.Errorf("the payload is not JSON: %.80s (write @%[1]s for the file of this name)", data)
		}
		return nil, fmt.Errorf("the payload is not JSON: %.80s", data)
	}
	return data, nil
}

const longestLine = 16 << 20

// sendFile publishes a file of events in batches, and shows the progress.
func (c *sendCommand) sendFile(ctx context.Context, router *client) error {
	if c.Data != "" || c.ID != "" {
		return errors.New("with --file, the payloads and ids come from the file: leave DATA and --id out")
	}
	input, size, err := c.openFile()
	if err != nil {
		return err
	}
	defer input.Close()
	bar := progressBar(size)
	lines := bufio.NewScanner(io.TeeReader(input, bar))
	lines.Buffer(make([]byte, 64<<10), longestLine)
	var batch []api.PublishRequest
	sent, matched, number := 0, 0, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		answers, err := router.PublishList(ctx, batch)
		if err != nil {
			return fmt.Errorf("%d events were accepted, up to line %d of %s: %w", sent, number-len(batch), c.File, err)
		}
		for _, a := range answers {
			matched += a.Matched
		}
		sent += len(batch)
		batch = batch[:0]
		return nil
	}
	for lines.Scan() {
		number++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		ev, err := c.eventOfLine(bytes.Clone(line))
		if err != nil {
			return fmt.Errorf("line %d of %s: %w (%d events were accepted before)", number, c.File, err, sent)
		}
		if batch = append(batch, ev); len(batch) == c.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", c.File, err)
	}
	if err := flush(); err != nil {
		return err
	}
	bar.Finish()
	fmt.Printf("accepted %d %s, matched %d %s\n", sent, plural(sent, "event"), matched, plural(matched, "subscription"))
	return nil
}

// openFile opens the file, "-" is standard input; size is -1 if it is unknown.
func (c *sendCommand) openFile() (file *os.File, size int64, err error) {
	if c.File == "-" {
		return os.Stdin, -1, nil
	}
	if file, err = os.Open(c.File); err != nil {
		return nil, 0, err
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return file, info.Size(), nil
	}
	return file, -1, nil
}

func (c *sendCommand) eventOfLine(line []byte) (api.PublishRequest, error) {
	var ev struct {
		api.PublishRequest
		Data json.RawMessage `json:"data"` // as it is written: numbers keep their digits
	}
	if c.Type != "" {
		if !json.Valid(line) {
			return ev.PublishRequest, fmt.Errorf("not JSON: %.80s", line)
		}
		return api.PublishRequest{Account: c.Account, Type: c.Type, Data: json.RawMessage(line)}, nil
	}
	if err := json.Unmarshal(line, &ev); err != nil {
		return ev.PublishRequest, err
	}
	if ev.Type == "" || ev.Data == nil {
		return ev.PublishRequest, errors.New("an event needs type and data; give TYPE as an argument if the lines are payloads")
	}
	if ev.Account == "" {
		ev.Account = c.Account
	}
	ev.PublishRequest.Data = ev.Data
	return ev.PublishRequest, nil
}

// progressBar shows bytes on a terminal, and nothing elsewhere.
func progressBar(size int64) *progressbar.ProgressBar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return progressbar.DefaultBytesSilent(size)
	}
	return progressbar.DefaultBytes(size, "publishing")
}
